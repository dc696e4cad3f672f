"""Sixty-four tasks that read Redis at once: the reads of one tick as one MGET, beside a GET each and the peers.

64 tasks make 300 hits each over 200 keys with a playlist (871 bytes packed), one after the other; hits in a second, the
median of three rounds after a warm one. *Bytes*: what reading by itself gives, ours with the counters that judge a
value. *Decoded*: whole hits of a cached function. *One task*: the price of that for a caller who is alone.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from typing import TYPE_CHECKING, Any

import msgpack
import redis.asyncio

from benchmarks._peers import TTL_S, Place, peers_on, serving
from benchmarks._table import Row, absent
from benchmarks.cache_l1 import NESTED
from smw.cache import Cache
from smw.cache.stores.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

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
    task: str,
    systems: Mapping[str, Callable[[int], Awaitable[Any]] | None],
    tasks: int,
    each: int,
    targets: dict[str, str],
) -> list[Row]:
    """Return the median of three rounds after a warm one, the first system being what the others are compared with."""
    found = {name: f for name, f in systems.items() if f is not None}
    rates: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(4):
        for name, f in found.items():
            rate = await _rate(f, tasks, each)
            if turn:
                rates[name].append(rate)
    median = {name: statistics.median(each) for name, each in rates.items()}
    base = next(iter(median.values()))
    return [
        Row(task, name, median[name], "/s", median[name] / base, targets.get(name))
        if name in median
        else absent(task, name)
        for name in systems
    ]


async def _measure(place: Place, each: int) -> list[Row]:
    url = place.url
    client, packed = redis.asyncio.Redis.from_url(url), msgpack.packb(NESTED)
    for number in range(KEYS):
        await client.set(f"bare:{number}", packed)
    for number, name in enumerate(COUNTERS):
        await client.set(name, number + 1)
    store = RedisStore(url, timeout_s=1.0)
    cache, peers = Cache(l2_host=url, namespace="benchmark"), peers_on(place, "async")

    async def load(number: int) -> Any:
        return NESTED if number >= 0 else {}

    async def get(number: int) -> Any:
        return await client.get(f"bare:{number}")

    async def decoded(number: int) -> Any:
        return msgpack.unpackb(await client.get(f"bare:{number}"))

    async def together(number: int) -> Any:
        return await store.read(f"bare:{number}", COUNTERS, mode="async", timeout_s=1.0)

    reads = {GET: get, "smw, with the counters that judge them": together}
    hits: dict[str, Any] = {
        DECODED: decoded,
        **{name: peer and peer.cached(load) for name, peer in peers.items()},
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
    for peer in peers.values():
        if peer:
            await peer.close()
    return rows


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Measure all against a server of its own."""
    gc.collect()
    gc.disable()
    try:
        with serving("redis") as place:
            return asyncio.run(_measure(place, 30 if quick else 300))
    finally:
        gc.enable()
