"""Caches on a clock that stands still, with servers that live in this process."""

from __future__ import annotations

import pytest

from smw._kernel.host import Host
from smw.cache import Cache
from smw.cache.levels.level import Level
from smw.cache.levels.remote import Remote, Tier
from smw.testing import FakeClock, Recorded, SeededEntropy
from tests.contract.local_store import LocalStore


class Bench:
    """Makes caches that share a clock and, as processes share servers, the stores in `stores`."""

    def __init__(self, monkeypatch) -> None:
        self._monkeypatch = monkeypatch
        self.clock = FakeClock()
        self.stores: dict[str, LocalStore] = {}
        self.caches: list[Cache] = []

    def cache(self, *levels: str, profile: str = "testing", service: str = "shop", **options) -> Cache:
        """Return a cache with these levels behind memory."""
        stores = {name: self.stores.setdefault(name, LocalStore(self.clock)) for name in levels}

        def remote_of(_settings, host, *, fence, envelope, everything):
            tiers = []
            for name, store in stores.items():
                level = Level(name, store, host, timeout_s=0.05, everything=everything)
                tiers.append(Tier(name, (level,), lambda _key, level=level: level))
            return Remote(tiers, envelope=envelope, fence=fence, clock=host.clock, caps_s={})

        self._monkeypatch.setattr("smw.cache.part.remote_of", remote_of)
        made = Cache(host=Host(service, profile, self.clock, SeededEntropy()), **options)
        made.recorded = Recorded(made.host)
        self.caches.append(made)
        return made


@pytest.fixture
def bench(monkeypatch):
    made = Bench(monkeypatch)
    yield made
    for store in made.stores.values():
        store.failing = None
    for each in made.caches:
        each.close()


@pytest.fixture
def cache(bench):
    """A cache with memory alone."""
    return bench.cache()
