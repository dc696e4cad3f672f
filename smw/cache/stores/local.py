"""A server that lives in this process, for tests and examples: values and counters in dictionaries; opens nothing."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from smw._kernel.process import after_fork
from smw.cache.ports import Found

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.clock import Clock

__all__ = ["LocalStore"]


class _Contents:
    """What one of these servers holds: values with the moment at which they end, and counters."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.values: dict[str, tuple[bytes, float]] = {}
        self.counters: dict[str, int] = {}
        self.numbers = itertools.count(1)
        self.heat: dict[str, dict[str, float]] = {}
        self.lock = threading.RLock()  # a signal handler may drop something in the middle of a request
        after_fork(self._forked)

    def _forked(self) -> None:
        self.lock = threading.RLock()


_servers: WeakValueDictionary[str, _Contents] = WeakValueDictionary()
_naming = threading.Lock()


class LocalStore:
    """Behaves as a server does, without one.

    Args:
        url: ``memory://`` keeps to itself; caches with the same ``memory://name`` share what they hold, as processes
            share a server, for as long as one of them exists.
        clock: Says when values end; the first one of those that share them also what time it is there.
    """

    is_atomic = True

    def __init__(self, url: str = "memory://", *, clock: Clock) -> None:
        label = url.partition("://")[2]
        self.name = f"memory {label}".rstrip()
        self._clock = clock
        with _naming:
            self._contents = (_servers.get(label) if label else None) or _Contents(clock)
            if label:
                _servers[label] = self._contents

    @property
    def data(self) -> dict[str, tuple[bytes, float]]:
        """Key → stored bytes, and when they end on the clock."""
        return self._contents.values

    @property
    def counters(self) -> dict[str, int]:
        """Counter → what it shows."""
        return self._contents.counters

    async def read(self, key: str, counters: Sequence[str], *, mode: Mode, timeout_s: float) -> Found:  # noqa: ARG002
        """Return value and counters."""
        known = self._contents.counters
        blob, ends = self._contents.values.get(key, (None, 0.0))
        return Found(blob if ends > self._clock.now() else None, tuple([known.get(name) for name in counters]))

    async def read_many(
        self, reads: Sequence[tuple[str, Sequence[str]]], *, mode: Mode, timeout_s: float
    ) -> list[Found]:
        """Return value and counters of each."""
        return [await LocalStore.read(self, key, counters, mode=mode, timeout_s=timeout_s) for key, counters in reads]

    async def open(
        self,
        counters: Sequence[str],
        ttl_s: float,  # noqa: ARG002 - nothing is forgotten here
        *,
        mode: Mode,  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
    ) -> tuple[int, ...]:
        """Return the counters, starting those that are missing."""
        held = self._contents
        with held.lock:
            return tuple([held.counters.setdefault(name, next(held.numbers)) for name in counters])

    async def write(
        self,
        key: str,
        blob: bytes,
        ttl_s: float,
        *,
        counters: Sequence[str],
        found: Found,
        mode: Mode,  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
    ) -> bool:
        """Store `blob` if the counters show what `found` saw."""
        held = self._contents
        with held.lock:
            now = tuple([held.counters.get(name) for name in counters])
            if None in now or now != found.counters:
                return False
            held.values[key] = blob, self._clock.now() + ttl_s
            return True

    async def replace(
        self,
        key: str,
        blob: bytes,
        ttl_s: float,
        *,
        counters: Sequence[str],
        found: Found,
        mode: Mode,  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
    ) -> int:
        """Change the first counter; store `blob` if all of them showed what `found` saw, else remove it."""
        held = self._contents
        with held.lock:
            now = tuple([held.counters.get(name) for name in counters])
            if counters[0] in held.counters:
                held.counters[counters[0]] = next(held.numbers)
            held.values.pop(key, None)
            number = held.counters.get(counters[0], 0)
            if None in now or now != found.counters:
                return -number
            held.values[key] = blob, self._clock.now() + ttl_s
            return number

    async def drop(
        self,
        counters: Sequence[str],
        keys: Sequence[str],
        *,
        mode: Mode,  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
    ) -> tuple[int, ...]:
        """Change the counters that exist and remove the keys."""
        held = self._contents
        with held.lock:
            shown = tuple([next(held.numbers) for _ in counters])
            changed = zip(counters, shown, strict=True)
            held.counters.update([(name, number) for name, number in changed if name in held.counters])
            for key in keys:
                held.values.pop(key, None)
            return shown

    async def time(self, *, mode: Mode, timeout_s: float) -> float:  # noqa: ARG002
        """Return seconds since the epoch."""
        return self._contents.clock.wall()

    async def tell_hot(
        self,
        name: str,
        counts: Sequence[tuple[str, float]],
        most: int,
        *,
        mode: Mode,  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
    ) -> None:
        """Add to how often members are asked for, and keep the hottest; nothing fades here."""
        held = self._contents
        with held.lock:
            heat = held.heat.setdefault(name, {})
            for member, count in counts:
                heat[member] = heat.get(member, 0.0) + count
            held.heat[name] = dict(sorted(heat.items(), key=lambda pair: -pair[1])[:most])

    async def hottest(
        self,
        name: str,
        most: int,
        longest: int,
        *,
        mode: Mode,  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
    ) -> list[tuple[str, float]]:
        """Return the members that are asked for most."""
        heat = self._contents.heat.get(name, {})
        return [pair for pair in sorted(heat.items(), key=lambda pair: -pair[1])[:most] if len(pair[0]) <= longest]

    async def sizes(self, keys: Sequence[str], *, mode: Mode, timeout_s: float) -> list[int]:  # noqa: ARG002
        """Return how many bytes are stored under each key."""
        now = self._clock.now()
        found = [self._contents.values.get(key, (b"", 0.0)) for key in keys]
        return [len(blob) if ends > now else 0 for blob, ends in found]

    def keys(self, prefix: str, most: int) -> Iterator[str]:  # noqa: ARG002 - they are all at hand
        """Yield keys and counters that begin with `prefix`."""
        held, now = self._contents, self._clock.now()
        alive = [key for key, (_, ends) in list(held.values.items()) if ends > now]
        yield from (name for name in (*alive, *list(held.counters)) if name.startswith(prefix))

    def figures(self) -> dict[str, Any]:
        """Return how many values there are, and their size."""
        blobs = [blob for blob, _ in list(self._contents.values.values())]
        return {"entries": len(blobs), "bytes": sum(map(len, blobs))}

    def probe(self) -> None:
        """Answer."""

    def close(self) -> None:
        """Keep nothing open."""

    async def aclose(self) -> None:
        """Keep nothing open."""
