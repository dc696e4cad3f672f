"""What encryption adds to a hit on Redis: a playlist (871 bytes packed) sealed with AES-256-GCM, or in clear.

Hits one after the other over 200 keys, decoded, levels of servers alone, compression off in both; the two take turns
with each call, median; client and server on one processor, as in `cache_remote`. Beneath it the opening of the stored
bytes by itself, in CPU time, which noise reaches less. None of the peers seals what it stores.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks._peers import TTL_S, NoServerError, serving
from benchmarks._table import Row, absent, nanoseconds
from benchmarks.cache_l1 import NESTED
from benchmarks.cache_remote import on_one_processor
from smw._kernel.clock import SystemEntropy
from smw.cache import Cache
from smw.cache.values.envelope import Envelope, Letter
from smw.cache.values.seal import Seal

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "cache_sealed"
KEYS = 200
KEY = {"k1": b"1" * 32}
HIT, ADDED, OPENED = (
    "hit in Redis, sync",
    "hit in Redis, sync, added by sealing",
    "opening stored bytes, added by sealing",
)
CLEAR, SEALED = "smw, in clear", "smw, sealed"


def _load(number: int) -> dict[str, Any]:
    return NESTED if number >= 0 else {}


def _medians(systems: dict[str, Callable[[int], object]], rounds: int) -> dict[str, float]:
    """Return the median of each one's hits; they take turns with every call, so that a busy moment hits all."""
    taken: dict[str, list[int]] = {name: [] for name in systems}
    for _ in range(rounds):
        for number in range(KEYS):
            for name, fn in systems.items():
                began = time.perf_counter_ns()
                fn(number)
                taken[name].append(time.perf_counter_ns() - began)
    return {name: statistics.median(times[KEYS:]) / 1000 for name, times in taken.items()}


def _opening(seal: Seal | None) -> float:
    envelope, key = Envelope(compress_from=None, seal=seal), b"smw:benchmark:" + b"0" * 32
    stored = envelope.close(Letter(1, b"x" * 871, 0, 300_000, 1, (1, 2)), key)

    def calls(count: int) -> None:
        for _ in range(count):
            envelope.open(stored, key)

    return nanoseconds(calls, number=2000, rounds=21, clock=time.process_time_ns) / 1000


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Measure both against one server."""
    gc.collect()
    gc.disable()
    try:
        with on_one_processor(), serving("redis") as place:
            options: dict[str, Any] = {"l2_host": place.url, "compression": False}
            caches = {
                CLEAR: Cache(namespace="clear", **options),
                SEALED: Cache(namespace="sealed", encryption_keys=KEY, **options),
            }
            systems = {name: cache.cached(TTL_S, levels=("l2",))(_load) for name, cache in caches.items()}
            figures = _medians(systems, 20 if quick else 200)
            for cache in caches.values():
                cache.close()
    except NoServerError as error:
        return [absent(HIT, "everybody", str(error))]
    finally:
        gc.enable()
    added, opened = figures[SEALED] - figures[CLEAR], _opening(Seal(KEY, SystemEntropy())) - _opening(None)
    return [
        *[Row(HIT, name, figure, "us", figure / figures[CLEAR]) for name, figure in figures.items()],
        Row(ADDED, "smw", added, "us", target="<= 2 us"),
        Row(OPENED, "smw", opened, "us", target="<= 2 us"),
    ]
