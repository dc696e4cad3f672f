"""One of the processes that call a cold key at one moment; says how often it loaded and how many callers failed.

``python -m benchmarks._fleet_worker SYSTEM HOST PORT CALLERS LOADER_MS APART NAMESPACE`` prints ``ready``, waits for
a line, and prints a line of JSON. With APART = 1 no two callers share a flight of their own process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._peers import TTL_S, Place, aiocache_on, cashews_on, dogpile_on
from smw.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SYSTEMS = {"aiocache": aiocache_on, "cashews": cashews_on, "dogpile.cache": dogpile_on}
HEARD_S = 10.0
runs: list[int] = []


def _blocking(seconds: float) -> Callable[[int], int]:
    def load(number: int) -> int:
        runs.append(number)
        time.sleep(seconds)
        return number

    return load


def _awaiting(seconds: float) -> Callable[[int], Awaitable[int]]:
    async def load(number: int) -> int:
        runs.append(number)
        await asyncio.sleep(seconds)
        return number

    return load


async def _heard(caches: list[Cache]) -> None:
    """Wait until each hears the others, as processes that have run for a second do."""
    until = time.monotonic() + HEARD_S
    for cache in caches:
        await cache.cached(TTL_S, key=lambda number: ("first", number))(_awaiting(0))(0)
    while time.monotonic() < until and not all(cache._listener.is_connected for cache in caches):  # noqa: ASYNC110, SLF001
        await asyncio.sleep(0.02)
    runs.clear()


async def _callers(
    system: str, place: Place, count: int, seconds: float, *, apart: bool, namespace: str
) -> tuple[list[Callable[[], Any]], Callable[[], Awaitable[object]]]:
    """Return what each caller calls, connected already, and what closes it all."""
    if system == "smw":
        caches = [Cache(namespace=namespace, l2_host=place.url) for _ in range(count if apart else 1)]
        await _heard(caches)
        decorated = [cache.cached(TTL_S, key=lambda number: number)(_awaiting(seconds)) for cache in caches]

        async def close() -> None:
            for cache in caches:
                await cache.aclose()

        return [partial(decorated[number % len(decorated)], 1) for number in range(count)], close
    peers, decorated = [SYSTEMS[system](place, locked=True) for _ in range(count if apart else 1)], []
    for peer in peers:
        making = _blocking if peer.mode == "sync" else _awaiting
        first = peer.cached(making(0))(0)
        if peer.mode == "async":
            await first
        decorated.append(peer.cached(making(seconds)))
    runs.clear()

    async def close_all() -> None:
        for peer in peers:
            await peer.close()

    return [partial(decorated[number % len(decorated)], 1) for number in range(count)], close_all


def _in_threads(callers: list[Callable[[], Any]]) -> int:
    failed: list[BaseException] = []

    def call(caller: Callable[[], Any]) -> None:
        try:
            caller()
        except Exception as error:  # noqa: BLE001 - counted
            failed.append(error)

    threads = [threading.Thread(target=call, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(failed)


async def _main(words: list[str]) -> None:
    system, host, port, count, loader_ms, apart, namespace = words
    place = Place("redis", host, int(port))
    callers, close = await _callers(
        system, place, int(count), int(loader_ms) / 1000, apart=apart == "1", namespace=namespace
    )
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.perf_counter()
    if system == "dogpile.cache":
        failed = await asyncio.to_thread(_in_threads, callers)
    else:
        answers = await asyncio.gather(*(caller() for caller in callers), return_exceptions=True)
        failed = sum(answer != 1 for answer in answers)
    took = time.perf_counter() - began
    print(json.dumps({"runs": len(runs), "failed": failed, "wall_ms": took * 1000}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await close()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
