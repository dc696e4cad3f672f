"""Draining a Redis Stream (task T1): smw beside redis-py alone and FastStream, each checking every event's fields."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from benchmarks import _faststream as fast
from benchmarks._events import STREAM, Clocked, Event, event, key
from benchmarks._table import Row, compared, in_turns
from smw import pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

TASK = "drain a Redis Stream"
BARE = "redis-py async, COUNT 100, one XACK a page"
SYNC = "redis-py sync, COUNT 100, one XACK a page"
OURS = "smw, at least once, order per key"
PAGE = 100


def fill(url: str, count: int) -> None:
    """Write the events, each with the field that smw and the bare client read and with FastStream's."""
    import redis

    with redis.Redis.from_url(url) as client, client.pipeline(transaction=False) as many:
        client.delete(STREAM)
        for number in range(count):
            value = event(number)
            many.xadd(STREAM, {"value": value, "key": key(number), fast.FIELD: value})
        many.execute()


def _group(url: str, name: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        if any(group["name"] == name.encode() for group in client.xinfo_groups(STREAM)):
            client.xgroup_destroy(STREAM, name)
        client.xgroup_create(STREAM, name, id="0")


def bare_sync(url: str, count: int) -> float:
    """Drain by blocking calls: no retry, no order, no dead letter."""
    import redis

    _group(url, "sync")
    clock = Clocked(count)
    done = 0
    with redis.Redis.from_url(url) as client:
        while done < count:
            page: Any = client.xreadgroup("sync", "c", {STREAM: ">"}, count=PAGE)
            ids = []
            for position, fields in page[0][1]:
                Event.model_validate_json(fields[b"value"])
                clock.tick()
                ids.append(position)
            client.xack(STREAM, "sync", *ids)
            done += len(ids)
    return clock.rate


async def bare(url: str, count: int) -> float:
    """Drain by awaited calls: no retry, no order, no dead letter."""
    import redis.asyncio

    _group(url, "bare")
    client = redis.asyncio.Redis.from_url(url)
    clock = Clocked(count)

    async def handle(_event: Event) -> None:
        clock.tick()

    done = 0
    while done < count:
        answer = await client.xreadgroup("bare", "c", {STREAM: ">"}, count=PAGE)
        ids = []
        for position, fields in answer[0][1]:
            await handle(Event.model_validate_json(fields[b"value"]))
            ids.append(position)
        await client.xack(STREAM, "bare", *ids)
        done += len(ids)
    await client.aclose()
    return clock.rate


async def ours(url: str, count: int) -> float:
    """Drain with a served handler."""
    _group(url, "smw")
    served = pipeline.Pipeline(redis_url=url)
    clock = Clocked(count, lambda: served.stop(STREAM))

    @served.stream_process(STREAM, group="smw")
    async def handle(_event: Event) -> None:
        clock.tick()

    await served.serve(STREAM)
    await served.aclose()
    return clock.rate


def rows(url: str, *, count: int, rounds: int) -> list[Row]:
    """Measure all in turn; FastStream, being slower, drains a tenth, or all of it in batches."""
    fill(url, count)
    few = {fast.BATCH: count}
    systems: dict[str, Callable[[], float] | None] = {
        SYNC: lambda: bare_sync(url, count),
        BARE: lambda: asyncio.run(bare(url, count)),
        **fast.ways(
            fast.faststream_redis,
            (fast.DEFAULT, fast.BATCH, fast.WORKERS),
            lambda way: asyncio.run(fast.from_redis(url, few.get(way, count // 10), way)),
        ),
        OURS: lambda: asyncio.run(ours(url, count)),
    }
    figures = in_turns({name: once for name, once in systems.items() if once}, rounds, max)
    return compared(TASK, {name: figures.get(name) for name in systems}, "records/s", BARE, {OURS: ">= 0.58"})
