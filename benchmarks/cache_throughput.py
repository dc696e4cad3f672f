"""Sixty-four tasks that read Redis at once: the reads of one tick as one MGET, beside a GET each and the peers."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from typing import TYPE_CHECKING, Any

import aiocache
import aiocache.serializers
import cashews
import msgpack
import redis.asyncio

from benchmarks._table import Row
from benchmarks.cache_l1 import NESTED, TTL_S
from smw.cache import Cache
from smw.cache.redis import RedisStore
from tests.services.locate import Found, locate
from tests.services.server import launch
from tests.services.specs import SPECS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NAME = "cache_throughput"
TASKS, KEYS = 64, 200
COUNTERS = ("counter:fence", "counter:everything", "counter:tag")
READS = "64 tasks reading bytes in Redis"
HITS = "64 tasks hitting Redis, decoded"
ALONE = "one task reading bytes in Redis"
GET, DECODED = "redis-py, a GET each", "redis-py, a GET each + msgpack"


async def _rate(f: Callable[[int], Awaitable[Any]], tasks: int, each: int) -> float:
    """Return reads in a second."""

    async def one(task: int) -> None:
        for number in range(each):
            await f((task * 7 + number) % KEYS)

    began = time.perf_counter()
    await asyncio.gather(*(one(task) for task in range(tasks)))
    return tasks * each / (time.perf_counter() - began)


async def _rows(
    task: str, systems: dict[str, Callable[[int], Awaitable[Any]]], tasks: int, each: int, targets: dict[str, str]
) -> list[Row]:
    """Return the median of three rounds after a warm one, the first system being what the others are compared with."""
    rates: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(4):
        for name, f in systems.items():
            rate = await _rate(f, tasks, each)
            if turn:
                rates[name].append(rate)
    median = {name: statistics.median(each) for name, each in rates.items()}
    base = next(iter(median.values()))
    return [Row(task, name, rate, "/s", rate / base, targets.get(name)) for name, rate in median.items()]


async def _measure(url: str, each: int) -> list[Row]:
    client, packed = redis.asyncio.Redis.from_url(url), msgpack.packb(NESTED)
    for number in range(KEYS):
        await client.set(f"bare:{number}", packed)
    for number, name in enumerate(COUNTERS):
        await client.set(name, number + 1)
    store = RedisStore(url, timeout_s=1.0)
    cache, other = Cache(l2_host=url, namespace="benchmark"), cashews.Cache()
    other.setup(url)
    parts = client.connection_pool.connection_kwargs
    aio = aiocache.RedisCache(
        endpoint=parts["host"], port=parts["port"], serializer=aiocache.serializers.MsgPackSerializer(encoding=None)
    )

    async def load(number: int) -> Any:
        return NESTED if number >= 0 else {}

    async def get(number: int) -> Any:
        return await client.get(f"bare:{number}")

    async def decoded(number: int) -> Any:
        return msgpack.unpackb(await client.get(f"bare:{number}"))

    async def together(number: int) -> Any:
        return await store.read(f"bare:{number}", COUNTERS, mode="async", timeout_s=1.0)

    async def through_aiocache(number: int) -> Any:
        value = await aio.get(f"aio:{number}")
        if value is None:
            value = await load(number)
            await aio.set(f"aio:{number}", value, ttl=TTL_S)
        return value

    reads = {GET: get, "smw, with the counters that judge them": together}
    hits = {
        DECODED: decoded,
        "aiocache": through_aiocache,
        "cashews": other(ttl=TTL_S, key="bench:{number}")(load),
        "smw": cache.cached(TTL_S, tags=["playlist"], levels=("l2",))(load),
    }
    rows = [
        *await _rows(READS, reads, TASKS, each, {"smw, with the counters that judge them": ">= 5"}),
        *await _rows(HITS, hits, TASKS, each, {"smw": ">= 5"}),
        *await _rows(ALONE, reads, 1, each * 10, {}),
    ]
    await cache.aclose()
    await store.aclose()
    await client.aclose()
    await aio.close()
    await other.close()
    return rows


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Measure all against a server of its own."""
    found = locate(SPECS["redis"], fetch=False)
    if not isinstance(found, Found):
        raise ImportError(f"no redis-server: {found.reason}")  # noqa: TRY004 - listed as not measured
    server = launch(SPECS["redis"], found)
    gc.collect()
    gc.disable()
    try:
        return asyncio.run(_measure(server.url, 30 if quick else 300))
    finally:
        gc.enable()
        server.close()
