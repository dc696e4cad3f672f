"""Draining a Kafka topic of eight partitions: smw beside kafka-python alone, each checking every event's fields."""

from __future__ import annotations

import itertools
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks._table import Row
from tests.services.locate import Found, locate
from tests.services.server import launch
from tests.services.specs import SPECS

if TYPE_CHECKING:
    from collections.abc import Callable

PARTITIONS = 8
PAGE = 500
groups = itertools.count()


def fill(url: str, topic: str, event: Callable[[int], bytes], count: int) -> None:
    """Make a topic and write the events, keyed by their users."""
    from kafka import KafkaAdminClient, KafkaProducer

    admin = KafkaAdminClient(bootstrap_servers=url)
    admin.create_topics({topic: {"num_partitions": PARTITIONS}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=url, linger_ms=20, batch_size=2**16)
    for number in range(count):
        producer.send(topic, event(number), key=str(number * 7919 % 10007).encode())
    producer.flush()
    producer.close()


def bare(url: str, topic: str, model: Any, clock: Any, count: int) -> float:
    """Drain with kafka-python alone: a commit at the end, no retry, no order, no dead letter."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=url,
        group_id=f"bare{next(groups)}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    done = 0
    while done < count:
        for records in consumer.poll(timeout_ms=1000, max_records=PAGE).values():
            for record in records:
                model.model_validate_json(record.value)
                clock.tick()
            done += len(records)
    consumer.commit()
    consumer.close()
    return float(clock.rate)


async def served(url: str, topic: str, model: Any, clocked: Any, count: int) -> float:
    """Drain with a served handler."""
    from smw import pipeline

    own = pipeline.Pipeline(kafka_brokers=url)
    clock = clocked(count, lambda: own.stop(topic))

    async def handle(_event: Any) -> None:
        clock.tick()

    handle.__annotations__["_event"] = model
    own.stream_process(topic, group=f"smw{next(groups)}")(handle)
    await own.serve(topic)
    await own.aclose()
    return float(clock.rate)


def rows(event: Callable[[int], bytes], model: Any, clocked: Any, *, count: int, rounds: int) -> list[Row]:
    """Measure on a broker of our own; without one there is nothing to measure."""
    import asyncio

    found = locate(SPECS["kafka"], fetch=False)
    if not isinstance(found, Found):
        return []
    server = launch(SPECS["kafka"], found)
    try:
        fill(server.url, "bench", event, count)
        pairs = [
            (
                bare(server.url, "bench", model, clocked(count, lambda: None), count),
                asyncio.run(served(server.url, "bench", model, clocked, count)),
            )
            for _ in range(rounds)
        ]
    finally:
        server.close()
    theirs, ours = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    task = "drain a Kafka topic"
    return [
        Row(task, f"kafka-python + crc32c, poll({PAGE}), one commit", theirs, "records/s"),
        Row(task, "smw, at least once, order per key", ours, "records/s", ours / theirs, ">= 0.36"),
    ]
