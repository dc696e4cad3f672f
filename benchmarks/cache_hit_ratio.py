"""What memory keeps: hit ratios of the caches under requests as they come, and the time of a request.

100 k keys by Zipf's law (exponent 1.0), 1 M requests. *Plain*: room for 1 k. *With a scan*: room for 10 k, and after
each 10 k requests 10 k keys that are asked for once and never again; the ratio is that of the others. *Shifting*: room
for 1 k, and who is popular is drawn anew with each quarter. A request is a look-up and, where that finds nothing,
storing. Ours is the memory of the cache by itself, of as many bytes as it has by default; nanoseconds are CPU time over
all requests of the plain trace, the least of three plays, less what the same play takes with nobody to ask.
"""

from __future__ import annotations

import functools
import itertools
import random
import time
from typing import TYPE_CHECKING, Any

from benchmarks._peers import TTL_S, optional
from benchmarks._table import Row, absent
from smw._kernel.clock import SystemClock
from smw.cache.coherence.fence import Fence
from smw.cache.levels.memory import ENTRY_BYTES, Entry, Memory

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "cache_hit_ratio"
KEYS, REQUESTS, QUICK_REQUESTS = 100_000, 1_000_000, 100_000
SCAN = 10_000
PLAYS = 3
BYTES, BYTES_OF_ONE = 64 * 2**20, 50 + ENTRY_BYTES
cachebox, cachetools, theine = optional("cachebox"), optional("cachetools"), optional("theine")
Request = tuple[int, bool]
"""A key, and whether it counts."""


def _zipf(count: int, chance: random.Random) -> list[int]:
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(KEYS)))
    return chance.choices(range(KEYS), cum_weights=weights, k=count)


def _plain(count: int) -> list[Request]:
    return [(key, True) for key in _zipf(count, random.Random(1))]


def _scanned(count: int) -> list[Request]:
    requests: list[Request] = []
    once = itertools.count(KEYS)
    for number, key in enumerate(_zipf(count, random.Random(2))):
        if number and number % SCAN == 0:
            requests += [(next(once), False) for _ in range(SCAN)]
        requests.append((key, True))
    return requests


def _shifting(count: int) -> list[Request]:
    chance, requests = random.Random(3), []
    for _ in range(4):
        names = list(range(KEYS))
        chance.shuffle(names)
        requests += [(names[rank], True) for rank in _zipf(count // 4, chance)]
    return requests


def _ours(room: int) -> Callable[[int], bool]:
    memory, table = Memory(room, BYTES), dict[Any, Entry]()
    fence, expires = Fence(SystemClock()), time.monotonic() + TTL_S
    get: Callable[[int], Entry | None] = table.get
    put, now = memory.put, time.monotonic

    def ask(key: int) -> bool:
        entry = get(key)
        if entry is not None and entry.deadline > now():
            entry.touched = 1
            return True
        put(table, key, key, None, expires, BYTES_OF_ONE, (), fence, 0, None)
        return False

    return ask


def _mapping(make: Callable[[int], Any]) -> Callable[[int], Callable[[int], bool]]:
    def made(room: int) -> Callable[[int], bool]:
        cache = make(room)

        def ask(key: int) -> bool:
            if cache.get(key) is not None:
                return True
            cache[key] = key + 1
            return False

        return ask

    return made


def _lru(room: int) -> Callable[[int], bool]:
    missed: list[int] = []
    fn = functools.lru_cache(room)(missed.append)

    def ask(key: int) -> bool:
        before = len(missed)
        fn(key)
        return len(missed) == before

    return ask


def _theine(room: int) -> Callable[[int], bool]:
    cache = theine.Cache(room)

    def ask(key: int) -> bool:
        if cache.get(key)[1]:
            return True
        cache.set(key, key)
        return False

    return ask


def _nobody(_room: int) -> Callable[[int], bool]:
    return lambda _key: True


def _played(ask: Callable[[int], bool], requests: list[Request]) -> tuple[int, float]:
    """Return how many requests were found of those that count, and the nanoseconds of one."""
    began = time.process_time_ns()
    hits = sum([ask(key) and counts for key, counts in requests])
    return hits, (time.process_time_ns() - began) / len(requests)


MAKERS: dict[str, Callable[[int], Callable[[int], bool]] | None] = {
    "theine": theine and _theine,
    "cachetools LRUCache": cachetools and _mapping(cachetools.LRUCache),
    "functools.lru_cache": _lru,
    "cachebox LRUCache": cachebox and _mapping(cachebox.LRUCache),
    "cachebox TTLCache": cachebox and _mapping(lambda room: cachebox.TTLCache(room, TTL_S)),
    "smw": _ours,
}
TRACES: dict[str, tuple[Callable[[int], list[Request]], int, float]] = {
    "plain": (_plain, 1_000, 59.5),
    "with a scan": (_scanned, 10_000, 75.0),
    "shifting": (_shifting, 1_000, 59.0),
}
ASKED = "a request of the plain trace, found or stored"


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Play each trace to each cache."""
    rows, times = [], []
    for trace, (draw, room, target) in TRACES.items():
        requests = draw(QUICK_REQUESTS if quick else REQUESTS)
        empty = min([_played(_nobody(room), requests)[1] for _ in range(PLAYS)])
        counting = sum(counts for _, counts in requests)
        task = f"hit ratio, {trace}, room for {room:,} of {KEYS:,} keys"
        for system, make in MAKERS.items():
            if make is None:
                rows.append(absent(task, system))
                continue
            hits, took = _played(make(room), requests)
            rows.append(
                Row(task, system, 100 * hits / counting, "%", target=f">= {target} %" if system == "smw" else None)
            )
            if trace == "plain":
                took = min(took, *[_played(make(room), requests)[1] for _ in range(PLAYS - 1)]) - empty
                times.append(Row(ASKED, system, took, "ns", target="<= 350 ns" if system == "smw" else None))
    return rows + times
