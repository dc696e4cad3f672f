"""Records that go to another reader while this one has them: what was not begun is dropped, the rest ends quietly."""

from __future__ import annotations

import asyncio

import pytest

from smw import pipeline
from smw._kernel.clock import SystemClock
from smw.pipeline.memory import MemoryHub
from smw.pipeline.ports import Entry, Record


class Movable:
    """An in-memory stream whose records can be taken from the reader, as a broker does when it moves a partition."""

    kind = "movable"

    def __init__(self, count, key=None):
        self.inner = MemoryHub(SystemClock(), 1_000).stream("s")
        self.name = "s"
        self.again, self.settled, self.buried, self.noted = [], [], [], []
        self.start = [Entry(str(number).encode(), key) for number in range(count)]

    @property
    def lag(self):
        return None

    def on_revoke(self, lost):
        self.lost = lost

    async def poll(self, max_records, wait_s):
        if self.start:
            entries, self.start = self.start, []
            await self.inner.append(entries)
        if self.again:
            await asyncio.sleep(0)
            records, self.again = self.again, []
            return records
        return await self.inner.poll(max_records, min(wait_s, 0.01))

    async def settle(self, positions):
        self.settled += positions

    async def defer(self, position, attempt):
        self.noted.append((position, attempt))

    async def dead(self, record, letter):
        self.buried.append(record.position)

    async def append(self, entries):
        return await self.inner.append(entries)

    async def letters(self, limit):
        return []

    async def tend(self): ...

    async def close(self): ...


class Scene:
    """A served stream whose handler waits until it is released, or fails."""

    def __init__(self, count, key=None, retry=None, many=False):
        self.stream = Movable(count, key)
        self.begun, self.gate, self.fails = [], asyncio.Event(), False
        self.own = pipeline.Pipeline(drain_s=1)

        async def one(value: int):
            self.begun.append(value)
            await self.gate.wait()
            if self.fails:
                raise ValueError

        async def several(values: list[int]):
            self.begun += values
            await self.gate.wait()

        self.own.stream_process("s", retry=retry or pipeline.Retry(times=1, first=0.02))(several if many else one)

    async def __aenter__(self):
        self.serving = asyncio.create_task(self.own.serve("s", self.stream))
        await self.until(lambda: self.begun)
        await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *_error):
        self.gate.set()
        self.own.stop()
        await self.serving
        await self.own.aclose()

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - what is waited for is a state, not an event
                await asyncio.sleep(0.005)

    def in_flight(self):
        return self.own._tally("s").in_flight


async def test_what_was_not_begun_is_dropped():
    """Of one key the first record runs; the others leave unhandled, and the first is settled as usual."""
    async with Scene(5, key="k") as scene:
        dropped = scene.stream.lost(frozenset("12345"))
        assert sorted(dropped) == ["2", "3", "4", "5"]
        assert scene.in_flight() == 1
        scene.gate.set()
        await scene.until(lambda: scene.stream.settled == ["1"])
        assert scene.begun == [0]


async def test_only_the_named_records_leave():
    """Records of partitions that stay are not touched."""
    async with Scene(5, key="k") as scene:
        assert sorted(scene.stream.lost(frozenset("24"))) == ["2", "4"]
        scene.gate.set()
        await scene.until(lambda: len(scene.stream.settled) == 3)
        assert scene.begun == [0, 2, 4]


@pytest.mark.parametrize("times", [0, 3])
async def test_a_failure_of_a_record_that_left_is_not_ours(times):
    """It is neither tried again nor buried, and its room is free."""
    async with Scene(1, retry=pipeline.Retry(times=times, first=0.01)) as scene:
        assert list(scene.stream.lost(frozenset("1"))) == []
        scene.fails = True
        scene.gate.set()
        await scene.until(lambda: scene.in_flight() == 0)
        await asyncio.sleep(0.05)
        assert scene.begun == [0]
        assert scene.stream.buried == scene.stream.settled == []


async def test_a_parked_record_leaves_at_once():
    """A record that waits for its retry is in nobody's work."""
    async with Scene(2, key="k", retry=pipeline.Retry(times=3, first=0.1)) as scene:
        scene.fails = True
        scene.gate.set()
        await scene.until(lambda: len(scene.own._serving._running[0].delivery._workers.parked) == 1)
        assert sorted(scene.stream.lost(frozenset("12"))) == ["1", "2"]
        assert scene.in_flight() == 0
        await asyncio.sleep(0.15)
        assert scene.begun == [0]


async def test_a_record_that_comes_back_while_it_runs_is_ours_again():
    """Its failure is tried again here, since nobody else has it."""
    async with Scene(1) as scene:
        scene.stream.lost(frozenset("1"))
        scene.stream.again = [Record("1", b"0")]
        await scene.until(lambda: not scene.stream.again)
        await asyncio.sleep(0.03)
        scene.fails = True
        scene.gate.set()
        await scene.until(lambda: scene.stream.buried == ["1"])
        assert scene.begun == [0, 0]


async def test_a_running_batch_keeps_its_records():
    """What a handler of many has in work stays until it is done; the rest of the key leaves."""
    async with Scene(4, key="k", many=True) as scene:
        begun = len(scene.begun)
        assert len(scene.stream.lost(frozenset("1234"))) == 4 - begun
        scene.gate.set()
        await scene.until(lambda: len(scene.stream.settled) == begun)
