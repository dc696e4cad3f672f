"""A hit in Redis beside the bare client: what the cache adds to a GET and a msgpack decode, sync and async."""

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
import redis
import redis.asyncio
from dogpile.cache import make_region

from benchmarks._table import Row
from benchmarks.cache_l1 import NESTED, TTL_S
from smw.cache import Cache
from tests.services.locate import Found, locate
from tests.services.server import launch
from tests.services.specs import SPECS

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "cache_redis"
KEYS = 200
BARE = "bare redis-py GET + msgpack"


def _load(number: int) -> dict[str, Any]:
    return NESTED if number >= 0 else {}


def _times(f: Callable[[int], Any], count: int) -> list[int]:
    taken = []
    for number in range(count):
        began = time.perf_counter_ns()
        f(number % KEYS)
        taken.append(time.perf_counter_ns() - began)
    return taken


async def _async_times(f: Callable[[int], Any], count: int) -> list[int]:
    taken = []
    for number in range(count):
        began = time.perf_counter_ns()
        await f(number % KEYS)
        taken.append(time.perf_counter_ns() - began)
    return taken


def _rows(task: str, taken: dict[str, list[int]], limit_us: float) -> list[Row]:
    """Return medians, and beneath them what each adds to the bare client."""
    median = {name: statistics.median(times) / 1000 for name, times in taken.items()}
    rows = [Row(task, name, value, "us", value / median[BARE]) for name, value in median.items()]
    added = {name: value - median[BARE] for name, value in median.items() if name != BARE}
    return rows + [
        Row(
            f"{task}, added to the bare client",
            name,
            value,
            "us",
            None,
            f"<= {limit_us:g} us" if name == "smw" else None,
        )
        for name, value in added.items()
    ]


def _sync(url: str, rounds: int, count: int) -> list[Row]:
    cache = Cache(l2_host=url)
    client = redis.Redis.from_url(url)
    parts = client.connection_pool.connection_kwargs
    region = make_region().configure(
        "dogpile.cache.redis", expiration_time=TTL_S, arguments={"host": parts["host"], "port": parts["port"]}
    )
    packed = msgpack.packb(NESTED)
    for number in range(KEYS):
        client.set(f"bare:{number}", packed)
    systems: dict[str, Callable[[int], Any]] = {
        BARE: lambda number: msgpack.unpackb(client.get(f"bare:{number}")),
        "dogpile.cache": region.cache_on_arguments()(_load),
        "smw": cache.cached(TTL_S, tags=["playlist"], levels=("l2",))(_load),
    }
    taken: dict[str, list[int]] = {name: [] for name in systems}
    for call in systems.values():
        _times(call, KEYS)
    for _ in range(rounds):
        for name, call in systems.items():
            taken[name] += _times(call, count)
    cache.close()
    client.close()
    return _rows("hit in Redis, sync", taken, 25)


async def _async(url: str, rounds: int, count: int) -> list[Row]:
    cache, other = Cache(l2_host=url), cashews.Cache()
    client = redis.asyncio.Redis.from_url(url)
    other.setup(url)
    parts = client.connection_pool.connection_kwargs

    async def bare(number: int) -> Any:
        return msgpack.unpackb(await client.get(f"bare:{number}"))

    async def load(number: int) -> Any:
        return _load(number)

    aio = aiocache.RedisCache(
        endpoint=parts["host"], port=parts["port"], serializer=aiocache.serializers.MsgPackSerializer(encoding=None)
    )

    async def through_aiocache(number: int) -> Any:
        value = await aio.get(f"aio:{number}")
        if value is None:
            value = await load(number)
            await aio.set(f"aio:{number}", value, ttl=TTL_S)
        return value

    systems: dict[str, Callable[[int], Any]] = {
        BARE: bare,
        "aiocache": through_aiocache,
        "cashews": other(ttl=TTL_S, key="bench:{number}")(load),
        "smw": cache.cached(TTL_S, tags=["playlist"], levels=("l2",))(load),
    }
    taken: dict[str, list[int]] = {name: [] for name in systems}
    for call in systems.values():
        await _async_times(call, KEYS)
    for _ in range(rounds):
        for name, call in systems.items():
            taken[name] += await _async_times(call, count)
    await cache.aclose()
    await client.aclose()
    await aio.close()
    await other.close()
    return _rows("hit in Redis, async", taken, 30)


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Measure all against a server of its own."""
    found = locate(SPECS["redis"], fetch=False)
    if not isinstance(found, Found):
        raise ImportError(f"no redis-server: {found.reason}")  # noqa: TRY004 - listed as not measured
    server = launch(SPECS["redis"], found)
    rounds, count = (2, 200) if quick else (20, 500)
    gc.collect()
    gc.disable()
    try:
        return [*_sync(server.url, rounds, count), *asyncio.run(_async(server.url, rounds, count))]
    finally:
        gc.enable()
        server.close()
