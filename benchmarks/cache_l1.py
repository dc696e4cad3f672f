"""An answer from memory, sync and async, beside the caches that people use.

CPU time, as nothing here waits: another program that runs beside changes the figures little.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks._peers import TTL_S, optional
from benchmarks._table import Row, absent, nanoseconds
from smw.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

aiocache, async_lru, cachebox = optional("aiocache"), optional("async_lru"), optional("cachebox")
cachetools, cashews, dogpile = optional("cachetools"), optional("cashews"), optional("dogpile.cache")

NAME = "cache_l1"
SIZE = 1000
FLAT = {"id": 1, "name": "Morning mix", "public": True, "score": 0.87}
NESTED = {
    "id": "37i9dQZF1DX", "name": "Morning mix", "owner": "user-42", "score": 0.87, "public": True, "cover": None,
    "tracks": [{"id": f"t{n:04d}", "title": f"Song {n}", "artist": f"Artist {n}", "ms": 200_000} for n in range(13)],
}  # fmt: skip
Wrap = Any
ROUNDS = 21
CLOCK = time.process_time_ns
CACHEBOX = "cachebox TTLCache"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _empty(count: int) -> None:
    for _ in range(count):
        pass


def _int(f: Callable[..., Any]) -> Callable[[int], None]:
    def calls(count: int) -> None:
        for _ in range(count):
            f(1)

    return calls


def _words(f: Callable[..., Any]) -> Callable[[int], None]:
    def calls(count: int) -> None:
        for _ in range(count):
            f("tenant42", lang="fr")

    return calls


def _method(f: Any) -> Callable[[int], None]:
    class Service:
        load = f

    service = Service()

    def calls(count: int) -> None:
        for _ in range(count):
            service.load(1)

    return calls


def _by_int(number: int) -> int:
    return number


def _by_words(tenant: str, *, lang: str = "en") -> str:
    return tenant + lang


class Service:
    """Where the method is defined, so that it is one."""

    def load(self, number: int) -> int:
        """Return what was given."""
        return number


# How it is called, what is called, who calls it, and what a hit may take, sync and async.
TASKS: tuple[tuple[str, Any, Callable[[Any], Callable[[int], None]], str, str], ...] = (
    ("f(1)", _by_int, _int, "<= 180 ns", "<= 250 ns"),
    ('f("tenant42", lang="fr")', _by_words, _words, "<= 280 ns", "<= 380 ns"),
    ("obj.load(1)", Service.load, _method, "<= 300 ns", "<= 380 ns"),
)


def _in_instance(instance: Any) -> Any:
    try:
        return instance.cache
    except AttributeError:
        instance.cache = cachebox.TTLCache(SIZE, TTL_S)
        return instance.cache


def _dogpile() -> Wrap:
    """Return its decorator over a dict; the key generator is its own that takes keyword arguments."""
    from dogpile.cache.util import kwarg_function_key_generator

    region = dogpile.make_region(function_key_generator=kwarg_function_key_generator)
    return region.configure("dogpile.cache.memory", expiration_time=TTL_S).cache_on_arguments()


def _sync_systems(cache: Cache, *, is_method: bool) -> dict[str, Wrap | None]:
    """Return what makes each decorator; None where the package is missing."""
    # cachebox keeps methods apart per instance by a cache in the instance, as its documentation has it.
    return {
        CACHEBOX: cachebox and (lambda: cachebox.cached(_in_instance if is_method else cachebox.TTLCache(SIZE, TTL_S))),
        "cachetools TTLCache + lock": cachetools
        and (lambda: cachetools.cached(cachetools.TTLCache(SIZE, TTL_S), lock=threading.RLock())),
        "dogpile.cache, memory": dogpile and _dogpile,
        "functools.lru_cache (no TTL)": lambda: functools.lru_cache(SIZE),
        "smw": lambda: cache.cached(TTL_S, tags=["playlist"]),
    }


def _in_turns(systems: dict[str, Callable[[int], None]], number: int) -> dict[str, float]:
    """Return the median nanoseconds of each, measured in turns, so that a busy moment hits them all."""
    rounds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(ROUNDS):
        empty = nanoseconds(_empty, number=number, rounds=1, clock=CLOCK)
        for name, calls in systems.items():
            few = max(200, number // 10) if name.startswith("dogpile") else number
            rounds[name].append(nanoseconds(calls, number=few, rounds=1, clock=CLOCK) - empty)
    return {name: statistics.median(taken) for name, taken in rounds.items()}


def _sync(number: int) -> list[Row]:
    rows = []
    with _quiet():
        for text, fn, caller, target, _ in TASKS:
            wraps = _sync_systems(Cache(), is_method=fn is Service.load)
            systems = {name: caller(make()(fn)) for name, make in wraps.items() if make}
            rows += _rows(f"hit in memory, sync: {text}", wraps, _in_turns(systems, number), CACHEBOX, target)
    return rows


def _rows(task: str, wraps: dict[str, Wrap | None], taken: dict[str, float], peer: str, target: str) -> list[Row]:
    return [
        Row(
            task, name, taken[name], "ns", taken[name] / taken[peer] if peer in taken else None,
            target if name == "smw" else None,
        )
        if wrap else absent(task, name)
        for name, wrap in wraps.items()
    ]  # fmt: skip


def _awaited(fn: Any) -> Any:
    """Return the coroutine function of the same parameters."""

    if fn is _by_int:

        async def load(number: int) -> int:
            return number

    elif fn is _by_words:

        async def load(tenant: str, *, lang: str = "en") -> str:  # type: ignore[misc]
            return tenant + lang

    else:

        async def load(self: Any, number: int) -> int:  # type: ignore[misc]  # noqa: ARG001 - a method
            return number

        load.__qualname__ = "Service.load"
    return load


def _async_caller(f: Any, text: str) -> Callable[[int], Any]:
    instance = type("Service", (), {"load": f})()

    async def calls(count: int) -> None:
        if text == "f(1)":
            for _ in range(count):
                await f(1)
        elif text.startswith("f("):
            for _ in range(count):
                await f("tenant42", lang="fr")
        else:
            for _ in range(count):
                await instance.load(1)

    return calls


async def _async_in_turns(systems: dict[str, Callable[[int], Any]], number: int) -> dict[str, float]:
    rounds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(ROUNDS):
        empty = nanoseconds(_empty, number=number, rounds=1, clock=CLOCK)
        for name, calls in systems.items():
            few = max(200, number // 20) if name in ("aiocache", "cashews") else number
            await calls(10)
            began = CLOCK()
            await calls(few)
            rounds[name].append((CLOCK() - began) / few - empty)
    return {name: statistics.median(taken) for name, taken in rounds.items()}


async def _async(number: int) -> list[Row]:
    cache, memory = Cache(), cashews and cashews.Cache()
    if memory:
        memory.setup("mem://")
    wraps: dict[str, Wrap | None] = {
        "async-lru": async_lru and (lambda: async_lru.alru_cache(SIZE, ttl=TTL_S)),
        CACHEBOX: cachebox and (lambda: cachebox.cached(cachebox.TTLCache(SIZE, TTL_S))),
        "aiocache": aiocache and (lambda: aiocache.cached(ttl=TTL_S)),
        "cashews": memory and (lambda: memory(ttl=TTL_S)),
        "smw": lambda: cache.cached(TTL_S, tags=["playlist"]),
    }
    rows = []
    with _quiet():
        for text, fn, _, _, target in TASKS:
            systems = {name: _async_caller(make()(_awaited(fn)), text) for name, make in wraps.items() if make}
            taken = await _async_in_turns(systems, number)
            rows += _rows(f"hit in memory, async: {text}", wraps, taken, "async-lru", target)
    if memory:
        await memory.close()
    return rows


def _constant(value: object) -> Callable[[int], object]:
    def load(number: int) -> object:
        return value if number else None

    return load


def _mutable(number: int) -> list[Row]:
    """Measure results that could be changed: smw hands out a copy of everything, cachebox of the outermost dict."""
    rows = []
    with _quiet():
        for text, value in (("flat dict", FLAT), ("nested dict of 871 bytes", NESTED)):
            systems = {"smw, copy='auto'": Cache().cached(TTL_S)(_constant(value))}
            if cachebox:
                boxed = cachebox.cached(cachebox.TTLCache(SIZE, TTL_S))(_constant(value))
                systems = {"cachebox, outermost copied": boxed, **systems}
            taken = _in_turns({name: _int(f) for name, f in systems.items()}, number)
            rows += [Row(f"hit in memory, sync: {text}", name, nanos, "ns") for name, nanos in taken.items()]
    return rows


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Measure all."""
    number = 1_000 if quick else 20_000
    return [*_sync(number), *asyncio.run(_async(number // 4)), *_mutable(number // 4)]
