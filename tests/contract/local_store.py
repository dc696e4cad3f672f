"""A `Store` in a dictionary: the model that the real ones are compared with, and a server for tests without one."""

from __future__ import annotations

import itertools

from smw.cache.ports import Found, StoreFailedError


class LocalStore:
    """Behaves as a server does, in this process; `failing` makes every request fail so."""

    is_atomic = True

    def __init__(self, clock) -> None:
        self.name = "local"
        self.data: dict[str, tuple[bytes, float]] = {}
        self.counters: dict[str, int] = {}
        self.asked: list[str] = []
        self.failing: StoreFailedError | None = None
        self._clock = clock
        self._numbers = itertools.count(1)

    def _enter(self, what: str) -> None:
        self.asked.append(what)
        if self.failing is not None:
            raise self.failing

    async def read(self, key, counters, *, mode, timeout_s):
        self._enter("read")
        blob, ends = self.data.get(key, (None, 0.0))
        return Found(blob if ends > self._clock.now() else None, tuple(self.counters.get(name) for name in counters))

    async def open(self, counters, ttl_s, *, mode, timeout_s):
        self._enter("open")
        return tuple(self.counters.setdefault(name, next(self._numbers)) for name in counters)

    async def write(self, key, blob, ttl_s, *, counters, found, mode, timeout_s):
        self._enter("write")
        now = tuple(self.counters.get(name) for name in counters)
        if None in now or now != found.counters:
            return False
        self.data[key] = blob, self._clock.now() + ttl_s
        return True

    async def drop(self, counters, keys, *, mode, timeout_s):
        self._enter("drop")
        for name in counters:
            if name in self.counters:
                self.counters[name] = next(self._numbers)
        for key in keys:
            self.data.pop(key, None)

    def probe(self) -> None:
        self._enter("probe")

    def close(self) -> None:
        """Keep nothing open."""

    async def aclose(self) -> None:
        """Keep nothing open."""
