"""Reads of one tick travel together, and none of them notices the others."""

from __future__ import annotations

import asyncio

import pytest

from smw.cache.stores.deadlines import Busy
from smw.cache.stores.redis_reads import MOST_KEYS, Reads


class Lines:
    """Connections that answer when told to, with the key's own name as value."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, ...]] = []
        self.timeouts: list[float] = []
        self.answer = asyncio.Event()
        self.answer.set()
        self.error: Exception | None = None
        self.reply = list

    async def run(self, timeout_s, _command, *keys):
        self.sent.append(keys)
        self.timeouts.append(timeout_s)
        async with asyncio.timeout(timeout_s):
            await self.answer.wait()
            await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.reply(keys)


@pytest.fixture
async def lines():
    return Lines()


@pytest.fixture
async def reads(lines):
    return Reads(lines, Busy())


async def test_a_lone_read_is_sent_at_once(reads, lines):
    """Reads one after the other are requests of their own."""
    for number in range(3):
        assert await reads.run(1.0, "MGET", f"k{number}", "tag") == [f"k{number}", "tag"]
    assert lines.sent == [("k0", "tag"), ("k1", "tag"), ("k2", "tag")]


async def test_reads_of_a_tick_are_one_request(reads, lines):
    """All but the first of a tick are one MGET that names each key once, and each gets what it asked for."""
    found = await asyncio.gather(*(reads.run(1.0, "MGET", f"k{number % 4}", "tag") for number in range(9)))
    assert found == [[f"k{number % 4}", "tag"] for number in range(9)]
    assert lines.sent == [("k0", "tag"), ("k1", "tag", "k2", "k3", "k0")]


async def test_a_cancelled_reader_harms_nobody(reads, lines):
    """The others of its batch get their values."""
    lines.answer.clear()
    tasks = [asyncio.ensure_future(reads.run(1.0, "MGET", f"k{number}")) for number in range(6)]
    await asyncio.sleep(0.01)
    for number in (0, 2, 5):
        tasks[number].cancel()
    lines.answer.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [found[number] for number in (1, 3, 4)] == [["k1"], ["k3"], ["k4"]]
    assert all(isinstance(found[number], asyncio.CancelledError) for number in (0, 2, 5))
    assert await reads.run(1.0, "MGET", "k") == ["k"]
    assert len(lines.sent) == 3


async def test_each_waits_no_longer_than_its_own_deadline(reads, lines):
    """A short deadline ends its own wait alone; the request may take as long as the longest one says."""
    lines.answer.clear()
    first = asyncio.ensure_future(reads.run(5.0, "MGET", "first"))
    short = [asyncio.ensure_future(reads.run(seconds, "MGET", "short")) for seconds in (0.02, 0.04)]
    long = asyncio.ensure_future(reads.run(5.0, "MGET", "long"))
    for each in short:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(each, 2.0)
    assert not long.done()
    lines.answer.set()
    assert await long == ["long"]
    assert await first == ["first"]
    assert lines.timeouts[1] > 4.0


async def test_the_last_deadline_ends_the_request(reads, lines):
    """When nobody waits any more the request is given up."""
    lines.answer.clear()
    calls = [reads.run(0.03, "MGET", f"k{number}") for number in range(4)]
    found = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 2.0)
    assert all(isinstance(each, TimeoutError) for each in found)
    lines.answer.set()
    assert await reads.run(1.0, "MGET", "k") == ["k"]


async def test_a_failure_reaches_all_that_travel_together(reads, lines):
    """Each gets the error, and the next read is tried anew."""
    lines.error = ConnectionResetError("gone")
    found = await asyncio.gather(*(reads.run(1.0, "MGET", "k") for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in found] == [ConnectionResetError] * 5
    lines.error = None
    assert await reads.run(1.0, "MGET", "k") == ["k"]


@pytest.mark.parametrize("reply", [lambda keys: list(keys)[1:], lambda _keys: b"OK", lambda _keys: None])
async def test_a_reply_of_another_shape_is_nobodys(reads, lines, reply):
    """A reply that is not the answer to the batch is handed to none of it as a value."""
    lines.reply = reply
    found = await asyncio.gather(*(reads.run(1.0, "MGET", f"k{number}") for number in range(5)))
    assert found[1:] == [None] * 4


async def test_a_request_has_a_bound(reads, lines):
    """Many reads in one tick are several requests of bounded size."""
    count = 3 * MOST_KEYS
    found = await asyncio.gather(*(reads.run(1.0, "MGET", f"k{number}") for number in range(count + 1)))
    assert found == [[f"k{number}"] for number in range(count + 1)]
    assert list(map(len, lines.sent)) == [1, MOST_KEYS, MOST_KEYS, MOST_KEYS]
