"""A hit on a server beside the bare client: what each cache adds to a read and a decode, sync and async."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

import msgpack

from benchmarks._peers import TTL_S, Mode, NoServerError, Place, peers_on, serving
from benchmarks._table import Row, absent
from benchmarks.cache_l1 import NESTED
from smw.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

NAME = "cache_remote"
KEYS = 200
BARE = {
    ("redis", "sync"): "bare redis-py GET + msgpack",
    ("redis", "async"): "bare redis-py GET + msgpack",
    ("memcached", "sync"): "bare pymemcache get + msgpack",
    ("memcached", "async"): "bare aiomcache get + msgpack",
}
LIMIT_US = 15
MODES: tuple[Mode, ...] = ("sync", "async")


def _task(kind: str, mode: str) -> str:
    return f"hit in {kind.capitalize()}, {mode}"


def _load(number: int) -> dict[str, Any]:
    return NESTED if number >= 0 else {}


async def _aload(number: int) -> dict[str, Any]:
    return NESTED if number >= 0 else {}


def _bare(place: Place, mode: Mode) -> tuple[Callable[[int], Any], Callable[[], Awaitable[object]]]:
    """Return what reads one key by the client alone, filled already, and what closes the client."""
    packed = msgpack.packb(NESTED)
    if place.kind == "redis":
        import redis
        import redis.asyncio

        client = redis.Redis.from_url(place.url)
        for number in range(KEYS):
            client.set(f"bare:{number}", packed)
        if mode == "sync":
            return lambda number: msgpack.unpackb(client.get(f"bare:{number}")), _closing(client)
        waiting = redis.asyncio.Redis.from_url(place.url)

        async def get(number: int) -> Any:
            return msgpack.unpackb(await waiting.get(f"bare:{number}"))

        return get, waiting.aclose
    import aiomcache
    import pymemcache

    plain = pymemcache.Client((place.host, place.port), no_delay=True)
    for number in range(KEYS):
        plain.set(f"bare:{number}", packed)
    if mode == "sync":
        return lambda number: msgpack.unpackb(plain.get(f"bare:{number}")), _closing(plain)
    other = aiomcache.Client(place.host, place.port)

    async def fetch(number: int) -> Any:
        return msgpack.unpackb(await other.get(b"bare:%d" % number))

    return fetch, other.close


def _closing(client: Any) -> Callable[[], Awaitable[object]]:
    async def close() -> None:
        client.close()

    return close


@contextlib.contextmanager
def on_one_processor() -> Iterator[None]:
    """Keep this process, and the servers that it starts meanwhile, on one processor.

    On two it depends on the moment whether the answer is there when a client comes to wait for it, or whether the
    client has to be woken, which takes 40 us more: the quickest one waits the most often, and seems the slowest.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def _times(f: Callable[[int], Any], mode: Mode, count: int) -> list[int]:
    """Return the nanoseconds of calls one after the other, over the keys in rotation."""
    taken = []
    if mode == "sync":
        for number in range(count):
            began = time.perf_counter_ns()
            f(number % KEYS)
            taken.append(time.perf_counter_ns() - began)
    else:
        for number in range(count):
            began = time.perf_counter_ns()
            await f(number % KEYS)
            taken.append(time.perf_counter_ns() - began)
    return taken


async def _measure(place: Place, mode: Mode, rounds: int, count: int) -> list[Row]:
    level = "l2" if place.kind == "redis" else "l3"
    cache = Cache(
        namespace="benchmark", **({"l2_host": place.url} if level == "l2" else {"l3_servers": [place.address]})
    )
    load = _load if mode == "sync" else _aload
    bare, close = _bare(place, mode)
    peers = peers_on(place, mode)
    systems: dict[str, Callable[[int], Any] | None] = {BARE[place.kind, mode]: bare}
    systems |= {name: peer and peer.cached(load) for name, peer in peers.items()}
    systems["smw"] = cache.cached(TTL_S, tags=["playlist"], levels=(level,))(load)
    taken: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(rounds + 1):
        for name, call in systems.items():
            if call:
                times = await _times(call, mode, count if turn else 2 * KEYS)
                taken[name] += [statistics.median(times) / 1000] if turn else []
    await close()
    for peer in peers.values():
        if peer:
            await peer.close()
    await cache.aclose()
    return _rows(_task(place.kind, mode), BARE[place.kind, mode], taken)


def _rows(task: str, bare: str, taken: dict[str, list[float]]) -> list[Row]:
    """Return the median of the quietest round, and beneath it what each adds to the client, beside the best peer's."""
    median = {name: min(rounds) for name, rounds in taken.items() if rounds}
    rows = [
        Row(task, name, median[name], "us", median[name] / median[bare]) if name in median else absent(task, name)
        for name in taken
    ]
    added = {name: value - median[bare] for name, value in median.items() if name != bare}
    best = min((value for name, value in added.items() if name != "smw"), default=None)
    limit = f"<= {LIMIT_US} us"
    return rows + [
        Row(
            f"{task}, added to the client",
            name,
            us,
            "us",
            us / best if best else None,
            limit if name == "smw" else None,
        )
        for name, us in added.items()
    ]


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Measure all, each against a server of its own."""
    rounds, count = (12, 100) if quick else (100, 100)
    rows: list[Row] = []
    gc.collect()
    gc.disable()
    try:
        for kind in ("redis", "memcached"):
            try:
                with on_one_processor(), serving(kind) as place:
                    for mode in MODES:
                        rows += asyncio.run(_measure(place, mode, rounds, count))
            except NoServerError as error:
                rows += [absent(_task(kind, mode), "everybody", str(error)) for mode in MODES]
    finally:
        gc.enable()
    return rows
