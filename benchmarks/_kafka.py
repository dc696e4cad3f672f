"""Draining a Kafka topic of eight partitions (task T3): smw beside the clients alone and FastStream.

Each checks every event's fields. smw drives kafka-python, so that is the client with which it is compared.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from benchmarks import _faststream as fast
from benchmarks._events import Clocked, Event, event, key
from benchmarks._peers import optional
from benchmarks._table import Row, compared, in_turns
from smw import pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

confluent, aiokafka = optional("confluent_kafka"), optional("aiokafka")

PARTITIONS = 8
PAGE = 500
TOPIC = "bench"
TASK = "drain a Kafka topic"
BARE = f"kafka-python + crc32c, poll({PAGE}), one commit"
CONFLUENT = f"confluent-kafka, consume({PAGE}), one commit"
AIOKAFKA = f"aiokafka, getmany({PAGE}), one commit"
OURS = "smw over kafka-python, at least once, order per key"
groups = itertools.count()


def fill(url: str, count: int) -> None:
    """Make a topic and write the events, keyed by their users."""
    from kafka import KafkaAdminClient, KafkaProducer

    admin = KafkaAdminClient(bootstrap_servers=url)
    admin.create_topics({TOPIC: {"num_partitions": PARTITIONS}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=url, linger_ms=20, batch_size=2**16)
    for number in range(count):
        producer.send(TOPIC, event(number), key=key(number).encode())
    producer.flush()
    producer.close()


def bare(url: str, count: int) -> float:
    """Drain with kafka-python alone: a commit at the end, no retry, no order, no dead letter."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        TOPIC,
        bootstrap_servers=url,
        group_id=f"bare{next(groups)}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    clock = Clocked(count)
    done = 0
    while done < count:
        for records in consumer.poll(timeout_ms=1000, max_records=PAGE).values():
            for record in records:
                Event.model_validate_json(record.value)
                clock.tick()
            done += len(records)
    consumer.commit()
    consumer.close()
    return clock.rate


def by_confluent(url: str, count: int) -> float:
    """Drain with confluent-kafka alone."""
    options = {"bootstrap.servers": url, "group.id": f"confluent{next(groups)}", "enable.auto.commit": False}
    consumer = confluent.Consumer(options | {"auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC])
    clock = Clocked(count)
    done = 0
    while done < count:
        for record in consumer.consume(PAGE, 1.0):
            if record.error() is None:
                Event.model_validate_json(record.value())
                clock.tick()
                done += 1
    consumer.commit(asynchronous=False)
    consumer.close()
    return clock.rate


async def by_aiokafka(url: str, count: int) -> float:
    """Drain with aiokafka alone."""
    consumer = aiokafka.AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=url,
        group_id=f"aiokafka{next(groups)}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    clock = Clocked(count)
    done = 0
    while done < count:
        for records in (await consumer.getmany(timeout_ms=1000, max_records=PAGE)).values():
            for record in records:
                Event.model_validate_json(record.value)
                clock.tick()
            done += len(records)
    await consumer.commit()
    await consumer.stop()
    return clock.rate


async def served(url: str, count: int) -> float:
    """Drain with a served handler."""
    own = pipeline.Pipeline(kafka_brokers=url)
    clock = Clocked(count, lambda: own.stop(TOPIC))

    @own.stream_process(TOPIC, group=f"smw{next(groups)}")
    async def handle(_event: Event) -> None:
        clock.tick()

    await own.serve(TOPIC)
    await own.aclose()
    return clock.rate


def rows(url: str, *, count: int, rounds: int) -> list[Row]:
    """Measure all in turn; FastStream, being slower, drains a part, or all of it in batches."""
    fill(url, count)
    few = {fast.BATCH: count, fast.AT_LEAST_ONCE: count // 40}
    systems: dict[str, Callable[[], float] | None] = {
        BARE: lambda: bare(url, count),
        CONFLUENT: confluent and (lambda: by_confluent(url, count)),
        AIOKAFKA: aiokafka and (lambda: asyncio.run(by_aiokafka(url, count))),
        **fast.ways(
            fast.faststream_kafka,
            (fast.DEFAULT, fast.AT_LEAST_ONCE, fast.BATCH),
            lambda way: asyncio.run(fast.from_kafka(url, TOPIC, few.get(way, count // 10), way)),
        ),
        OURS: lambda: asyncio.run(served(url, count)),
    }
    figures = in_turns({name: once for name, once in systems.items() if once}, rounds, max)
    return compared(TASK, {name: figures.get(name) for name in systems}, "records/s", BARE, {OURS: ">= 0.36"})
