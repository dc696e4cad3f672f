"""Draining by FastStream: Redis Streams and Kafka, each in the ways that its documentation offers."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any

from benchmarks._events import STREAM, Clocked, Event
from benchmarks._peers import optional

if TYPE_CHECKING:
    from collections.abc import Callable

faststream = optional("faststream")
faststream_redis = faststream and optional("faststream.redis")
faststream_kafka = faststream and optional("faststream.kafka")

DEFAULT, BATCH, WORKERS = "FastStream, a record a call", "FastStream, batches", "FastStream, 10 workers"
AT_LEAST_ONCE = "FastStream, a record a call, at least once"
PAGE = 100
FIELD = "__data__"
"""The field of an entry in which FastStream reads the value."""
groups = itertools.count()


def _handler(count: int, *, batch: bool, model: Any = Event) -> tuple[Any, Clocked, asyncio.Event]:
    done = asyncio.Event()
    clock = Clocked(count, done.set)

    async def one(event: Any) -> None:  # noqa: ARG001 - decoding it is the work
        clock.tick()

    async def many(events: Any) -> None:
        for _ in events:
            clock.tick()

    handler = many if batch else one
    handler.__annotations__["events" if batch else "event"] = list[model] if batch else model
    return handler, clock, done


async def _drained(broker: Any, clock: Clocked, done: asyncio.Event) -> float:
    await broker.start()
    try:
        await asyncio.wait_for(done.wait(), 120)
    finally:
        await broker.stop()
    return clock.rate


async def from_redis(url: str, count: int, way: str) -> float:
    """Drain the stream's first `count` entries; each group reads it from its start."""
    broker = faststream_redis.RedisBroker(url, logger=None, log_level=logging.CRITICAL)
    group = f"faststream{next(groups)}"
    # The group is made beforehand, at the stream's start: FastStream would begin at its end.
    import redis

    with redis.Redis.from_url(url) as client:
        client.xgroup_create(STREAM, group, id="0")
    options: dict[str, Any] = {"max_records": PAGE, "batch": True} if way == BATCH else {"max_records": PAGE}
    workers = {"max_workers": 10} if way == WORKERS else {}
    source = faststream_redis.StreamSub(STREAM, group=group, consumer="c", **options)
    handler, clock, done = _handler(count, batch=way == BATCH)
    broker.subscriber(stream=source, **workers)(handler)
    return await _drained(broker, clock, done)


async def from_kafka(url: str, topic: str, count: int, way: str) -> float:
    """Drain the topic's first `count` records by aiokafka."""
    broker = faststream_kafka.KafkaBroker(url, logger=None, log_level=logging.CRITICAL)
    options: dict[str, Any] = {"auto_offset_reset": "earliest", "group_id": f"faststream{next(groups)}"}
    if way == BATCH:
        options |= {"batch": True, "max_records": 500}
    if way != DEFAULT:
        options["ack_policy"] = faststream.AckPolicy.NACK_ON_ERROR
    handler, clock, done = _handler(count, batch=way == BATCH)
    broker.subscriber(topic, **options)(handler)
    return await _drained(broker, clock, done)


def ways(module: Any, names: tuple[str, ...], drain: Callable[[str], float]) -> dict[str, Callable[[], float] | None]:
    """Return what measures each way once; None where FastStream is not installed."""
    return {name: (lambda name=name: drain(name)) if module else None for name in names}
