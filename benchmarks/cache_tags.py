"""Dropping everything under one tag, by how many keys carry it: 1 k, 10 k, 100 k, and 1 M for ours.

N keys with values of 50 bytes in Redis, all under one tag. Ours drops by raising the tag's counter, whatever carries
it, so beside some hundred results of a real function the other keys are made by the server itself (``DEBUG POPULATE``);
afterwards each of the real ones is loaded anew, or the row fails. cashews keeps a set of the keys of a tag and deletes
them: all its keys are its own. aiocache and dogpile.cache have no tags. Milliseconds until the call has returned, the
median of several drops for ours, the one drop for cashews.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import redis

from benchmarks._peers import TTL_S, NoServerError, Place, cashews, cashews_on, serving
from benchmarks._table import Row, absent
from smw.cache import Cache

NAME = "cache_tags"
SIZES, QUICK_SIZES, MOST_OF_PEERS = (1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000), 100_000
REAL, DROPS, AT_ONCE = 200, 7, 500
VALUE = "x" * 50


def _task(size: int) -> str:
    return f"dropping a tag of {size:,} keys in Redis"


def _ours(place: Place, size: int) -> float:
    loads: list[int] = []

    def load(number: int) -> str:
        loads.append(number)
        return VALUE

    with redis.Redis(host=place.host, port=place.port) as client:
        client.flushall()
        client.execute_command("DEBUG", "POPULATE", size - REAL, "smw:benchmark:filler", len(VALUE))
    cache = Cache(namespace="benchmark", l2_host=place.url)
    fn = cache.cached(TTL_S, tags=["catalogue"], levels=("l2",), key=lambda number: number)(load)
    taken = []
    try:
        for _ in range(DROPS):
            for number in range(REAL):
                fn(number)
            began = time.perf_counter()
            cache.drop_sync(tags=["catalogue"])
            taken.append((time.perf_counter() - began) * 1000)
        for number in range(REAL):
            fn(number)
    finally:
        cache.close()
    if len(loads) != REAL * (DROPS + 1):
        raise RuntimeError(f"{REAL * (DROPS + 1) - len(loads)} results outlived their tag")
    return statistics.median(taken)


async def _of_cashews(place: Place, size: int) -> float:
    with redis.Redis(host=place.host, port=place.port) as client:
        client.flushall()
    peer = cashews_on(place)
    cache = peer.cache
    cache.register_tag("catalogue", "item:{number}")
    for first in range(0, size, AT_ONCE):
        numbers = range(first, min(size, first + AT_ONCE))
        await asyncio.gather(*(cache.set(f"item:{n}", VALUE, expire=TTL_S, tags=["catalogue"]) for n in numbers))
    began = time.perf_counter()
    await cache.delete_tags("catalogue")
    took = (time.perf_counter() - began) * 1000
    left = await cache.get("item:0")
    await peer.close()
    if left is not None:
        raise RuntimeError("a key of cashews outlived its tag")
    return took


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Measure all against one server."""
    rows: list[Row] = []
    try:
        with serving("redis", "--enable-debug-command", "local") as place:
            for size in QUICK_SIZES if quick else SIZES:
                if cashews is None:
                    rows.append(absent(_task(size), "cashews"))
                elif size > MOST_OF_PEERS:
                    rows.append(absent(_task(size), "cashews", "about ten times as long as for a tenth of the keys"))
                else:
                    rows.append(Row(_task(size), "cashews", asyncio.run(_of_cashews(place, size)), "ms"))
                rows.append(Row(_task(size), "smw", _ours(place, size), "ms", target="<= 2 ms"))
    except NoServerError as error:
        return [absent(NAME, "everybody", str(error))]
    return rows
