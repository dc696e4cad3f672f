"""Records whose workers ended in the middle of them: tried alone, a bounded number of times, then dead letters."""

from __future__ import annotations

import asyncio

import pytest

from smw import pipeline
from smw.errors import Unavailable
from tests.unit.pipeline.test_revoked import Movable


class Returned(Movable):
    """A stream whose records were tried before, by workers that are no more."""

    def __init__(self, attempts):
        super().__init__(len(attempts))
        self.attempts = attempts
        self.letters_of = {}

    async def poll(self, max_records, wait_s):
        records = await super().poll(max_records, wait_s)
        for record in records:
            record.attempt = self.attempts[int(record.value)]
        return records

    async def dead(self, record, letter):
        await super().dead(record, letter)
        self.letters_of[int(record.value)] = letter


@pytest.mark.parametrize(("times", "most"), [(0, 3), (1, 3), (2, 3), (5, 6)])
async def test_how_many_ends_a_record_may_see(times, most):
    """As many attempts as the retries allow, never fewer than three; then a letter, and the handler is spared."""
    own, seen = pipeline.Pipeline(), []
    own.stream_process("s", retry=pipeline.Retry(times=times, first=0.001))(seen.append)
    stream = Returned([1, 2, most, most + 1])
    await own.serve("s", source=stream, until_empty=True)
    assert sorted(seen) == [0, 1, 2]
    (letter,) = stream.letters_of.values()
    assert (letter.value, letter.reason, letter.attempts) == (b"3", "crashed", most)
    assert [attempt for _, attempt in sorted(stream.noted)] == [2, most]


async def test_suspects_are_tried_one_at_a_time():
    """A further death tells which record it was: of those with two ends behind them, one runs at a time."""
    own, running, most = pipeline.Pipeline(), [0, 0], [0, 0]

    @own.stream_process("s")
    async def handle(event: int):
        kind = event % 2
        running[kind] += 1
        most[kind] = max(most[kind], running[kind])
        await asyncio.sleep(0.005)
        running[kind] -= 1

    await own.serve("s", source=Returned([1, 3] * 8), until_empty=True)
    assert most[0] > 1
    assert most[1] == 1


class Slow(Returned):
    """A stream that takes its time to settle, and is away once in between."""

    def __init__(self, attempts):
        super().__init__(attempts)
        self.order = []
        self.away = 1

    async def settle(self, positions):
        await asyncio.sleep(0.01)
        if self.away and self.noted:
            self.away -= 1
            raise Unavailable("X-1", "away")
        await super().settle(positions)
        self.order += [("settled", position) for position in positions]

    async def defer(self, position, attempt):
        await super().defer(position, attempt)
        self.order.append(("began", position))


async def test_a_suspect_is_settled_before_the_next_one_begins():
    """Otherwise one that was handled would count as interrupted when the next one kills the worker."""
    own, seen = pipeline.Pipeline(), []
    own.stream_process("s")(seen.append)
    stream = Slow([3] * 4)
    await own.serve("s", source=stream, until_empty=True)
    assert sorted(seen) == [0, 1, 2, 3]
    assert [what for what, _ in stream.order] == ["began", "settled"] * 4
    assert [position for _, position in stream.order[::2]] == [position for _, position in stream.order[1::2]]
