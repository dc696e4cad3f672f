"""Puts of one key that overlap: whatever their order, a value stays, and it is that of the last."""

from __future__ import annotations

import random
import types
from itertools import product

import pytest

from tests.contract.local_store import LocalStore


@types.coroutine
def _pause():
    yield


class Stepped(LocalStore):
    """Suspends before each request, and notes who has asked to replace a value; `told` hears of what changes."""

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.is_stepped = True
        self.last = None
        self.now = None
        self.told = lambda _key: None

    async def _step(self):
        if self.is_stepped:
            await _pause()

    async def read(self, *args, **how):
        await self._step()
        return await super().read(*args, **how)

    async def write(self, *args, **how):
        await self._step()
        return await super().write(*args, **how)

    async def replace(self, key, *args, **how):
        await self._step()
        self.last = self.now
        self.told(key)
        return await super().replace(key, *args, **how)


class Fleet:
    """Processes that put values under one key after another."""

    def __init__(self, bench) -> None:
        self.store = bench.stores["l2"] = Stepped(bench.clock)
        self.store.told = self.tell
        self.clock = bench.clock
        self.caches = [bench.cache("l2") for _ in range(3)]
        self.regions = [cache.region("web") for cache in self.caches]
        self.key = 0
        self.hears = "at once"
        self.mail = []

    def tell(self, key):
        """Have all other processes hear of a change."""
        self.mail.append((self.store.now, key))
        if self.hears == "at once":
            self.deliver()

    def deliver(self):
        """Have messages arrive."""
        for sender, key in self.mail:
            for process, cache in enumerate(self.caches):
                if process != sender[0]:
                    cache.engine.heard([key])
        self.mail.clear()

    def put(self, order, processes, **how):
        """Have one value put by each of `processes`, step by step in `order`, and return what each process reads."""
        self.key += 1
        self.store.is_stepped = True
        puts = {}
        for number, process in enumerate(processes):
            who = process, number
            marked = {name: self.regions[process].mark() for name in how}
            puts[who] = self.regions[process].put_in("sync", self.key, f"of {number}", 60, **marked)
        for number in order:
            self._step(puts, (processes[number], number))
        for who in list(puts):
            while who in puts:
                self._step(puts, who)
        self.mail.clear()
        self.store.is_stepped = False
        alone = self.regions[:1] if {*processes} == {0} else []  # others may hear of it for a second yet
        at_once = [region.get_sync(self.key) for region in alone]
        self.clock.advance(1.01)
        return [*at_once, *[region.get_sync(self.key) for region in self.regions]]

    def _step(self, puts, who):
        self.store.now = who
        try:
            if who in puts:
                puts[who].send(None)
        except StopIteration:
            del puts[who]


@pytest.mark.parametrize("hears", ["at once", "never"])
@pytest.mark.parametrize("processes", [(0, 1), (0, 0)])
def test_of_two_the_last_stays(bench, processes, hears):
    """In every order of their requests, in two processes and in one: all read the value that the server got last."""
    fleet = Fleet(bench)
    fleet.hears = hears
    for order in product((0, 1), repeat=6):
        read = fleet.put(order, processes)
        assert {*read} == {f"of {fleet.store.last[1]}"}, order


@pytest.mark.parametrize("hears", ["at once", "never"])
@pytest.mark.parametrize("processes", [(0, 1, 2), (0, 0, 1), (0, 1, 1)])
def test_of_three_the_last_stays(bench, processes, hears):
    """In orders that are drawn by chance."""
    fleet = Fleet(bench)
    fleet.hears = hears
    drawn = random.Random(7)
    for _ in range(30):
        order = drawn.choices((0, 1, 2), k=12)
        read = fleet.put(order, processes)
        assert {*read} == {f"of {fleet.store.last[1]}"}, order


def test_with_a_mark_nobody_reads_two_values(bench):
    """What may be older than a drop is not insisted on; all processes read the same, or nothing."""
    fleet = Fleet(bench)
    for order in product((0, 1), repeat=6):
        read = fleet.put(order, (0, 1), since=True)
        assert len({*read}) == 1, order
