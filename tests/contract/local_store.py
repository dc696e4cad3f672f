"""A `Store` in a dictionary: the model that the real ones are compared with, and a server for tests without one."""

from __future__ import annotations

import itertools

from smw.cache.ports import Found, StoreFailedError, Versions


class LocalStore:
    """Behaves as a server does, in this process; `failing` makes every request fail so."""

    def __init__(self, clock) -> None:
        self.name = "local"
        self.data: dict[str, tuple[bytes, float]] = {}
        self.fences: dict[str, int] = {}
        self.generations: dict[str, int] = {}
        self.asked: list[str] = []
        self.failing: StoreFailedError | None = None
        self._clock = clock
        self._numbers = itertools.count(1)

    def _enter(self, what: str) -> None:
        self.asked.append(what)
        if self.failing is not None:
            raise self.failing

    async def read(self, key, tags, *, mode, timeout_s):
        self._enter("read")
        blob, ends = self.data.get(key, (None, 0.0))
        versions = Versions(self.fences.get(key, 0), tuple(self.generations.get(tag) for tag in tags))
        return Found(blob if ends > self._clock.now() else None, versions)

    async def open(self, tags, ttl_s, *, mode, timeout_s):
        self._enter("open")
        return tuple(self.generations.setdefault(tag, next(self._numbers)) for tag in tags)

    async def write(self, key, blob, ttl_s, *, tags, found, mode, timeout_s):
        self._enter("write")
        now = Versions(self.fences.get(key, 0), tuple(self.generations.get(tag) for tag in tags))
        if now != found.versions:
            return False
        self.data[key] = blob, self._clock.now() + ttl_s
        return True

    async def drop(self, tags, keys, *, mode, timeout_s):
        self._enter("drop")
        for tag in tags:
            self.generations[tag] = next(self._numbers)
        for key in keys:
            self.data.pop(key, None)
            self.fences[key] = next(self._numbers)

    def probe(self) -> None:
        self._enter("probe")

    def close(self) -> None:
        """Keep nothing open."""

    async def aclose(self) -> None:
        """Keep nothing open."""
