"""Whatever fails, and whenever: nothing is lost, keys stay in order, attempts are bounded."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from smw import pipeline
from smw.errors import Unavailable
from smw.pipeline.memory import MemoryHub
from smw.pipeline.ports import Entry
from tests.unit.pipeline.virtual import virtually

TIMES = 3


@dataclass(frozen=True)
class Plan:
    """One record: its key, how often its handler fails first, and how long a call takes."""

    key: str | None
    failures: int
    takes_ms: int


plans = st.lists(
    st.builds(
        Plan,
        key=st.sampled_from([None, "a", "b", "c"]),
        failures=st.sampled_from([0, 0, 0, 1, 2, TIMES, TIMES + 1, 99]),
        takes_ms=st.integers(0, 5),
    ),
    max_size=40,
)


class Flaky:
    """A stream whose store is away now and then: before the work, or after it with the answer lost."""

    kind = "flaky"

    def __init__(self, inner, chance, seed):
        self.inner, self.chance, self.random = inner, chance, random.Random(seed)
        self.name = inner.name

    @property
    def lag(self):
        return self.inner.lag

    def __getattr__(self, name):
        method = getattr(self.inner, name)
        if name in ("close", "letters", "on_revoke"):
            return method

        async def flaky(*args):
            await asyncio.sleep(self.random.random() / 1000)
            if self.random.random() < self.chance:
                raise Unavailable("X-1", "away", seen="away")
            result = await method(*args)
            if name in ("settle", "defer") and self.random.random() < self.chance:
                raise Unavailable("X-2", "answer lost", seen="lost")
            return result

        return flaky


class World:
    """A stream with these records, a handler that behaves as planned, and a history of what it saw."""

    def __init__(self, host, records, chance, seed):
        self.host, self.records, self.chance, self.seed = host, records, chance, seed
        self.hub = MemoryHub(host.clock, 10_000)
        self.calls = [[] for _ in records]
        self.done = []
        self.busy = set()
        self.own = pipeline.Pipeline(host=host, drain_s=0.003)
        retry = pipeline.Retry(times=TIMES, first=0.01, cap=0.05)
        self.own.stream_process("s", retry=retry)(self.handle)

    async def fill(self):
        entries = [Entry(str(number).encode(), plan.key) for number, plan in enumerate(self.records)]
        if entries:
            await self.hub.stream("s").append(entries)

    async def handle(self, number: int):
        plan = self.records[number]
        assert plan.key is None or plan.key not in self.busy, "two records of one key at a time"
        self.busy.add(plan.key)
        try:
            self.calls[number].append(self.host.clock.now())
            await asyncio.sleep(plan.takes_ms / 1000)
            if len(self.calls[number]) <= plan.failures:
                raise ValueError(number)
            self.done.append(number)
        finally:
            self.busy.discard(plan.key)

    async def serve(self):
        self.seed += 1
        await self.own.serve("s", Flaky(self.hub.stream("s"), self.chance, self.seed), until_empty=True)

    async def dead(self):
        return [int(letter.value) for letter in await self.hub.stream("s").letters(1_000)]


@given(records=plans, chance=st.sampled_from([0.0, 0.1, 0.4]), seed=st.integers(0, 2**16))
@settings(max_examples=80, deadline=None)
def test_every_record_is_done_or_dead_in_order_and_within_its_attempts(records, chance, seed):
    """With a store that fails at random: all settled, each record done or dead, attempts and waits as promised."""

    async def main(host):
        world = World(host, records, chance, seed)
        await world.fill()
        await world.serve()
        return world, await world.dead()

    (world, dead), _ = virtually(main)
    hopeless = [number for number, plan in enumerate(records) if plan.failures > TIMES]
    assert sorted(dead) == hopeless
    assert sorted(world.done) == [number for number in range(len(records)) if number not in hopeless]
    assert world.hub.queue("s").unsettled == 0
    for number, plan in enumerate(records):
        calls = world.calls[number]
        assert len(calls) == min(plan.failures, TIMES) + 1
        for attempt, (earlier, later) in enumerate(itertools.pairwise(calls)):
            assert later - earlier >= min(0.05, 0.01 * 2**attempt)
    for key in ("a", "b", "c"):
        mine = [number for number in world.done if records[number].key == key]
        assert mine == sorted(mine)


@given(
    records=plans,
    stops=st.lists(st.floats(0.0, 0.06), max_size=5),
    chance=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=80, deadline=None)
def test_workers_that_come_and_go_lose_nothing(records, stops, chance, seed):
    """Workers are stopped or cancelled at any moment: each record still ends done or dead, never skipped in its key."""

    async def main(host):
        world = World(host, records, chance, seed)
        await world.fill()
        for number, stop_s in enumerate(stops):
            serving = asyncio.create_task(world.serve())
            await asyncio.sleep(stop_s)
            if number % 2:
                serving.cancel()
            else:
                world.own.stop()
            await asyncio.gather(serving, return_exceptions=True)
        await world.serve()
        return world, await world.dead()

    (world, dead), _ = virtually(main)
    assert set(world.done) | set(dead) == set(range(len(records)))
    assert world.hub.queue("s").unsettled == 0
    # A stream whose answer is lost has counted an attempt that never ran: then one call is enough to be given up.
    least = TIMES if chance == 0.0 else 1
    assert all(len(world.calls[number]) >= least for number in dead if records[number].failures <= TIMES)
    for key in ("a", "b", "c"):
        first = list(dict.fromkeys(number for number in world.done if records[number].key == key))
        assert first == sorted(first)
