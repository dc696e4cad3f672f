"""Exchanges whose time is up are ended, and a busy event loop is told from a server that does not answer."""

from __future__ import annotations

import asyncio
import socket

import pytest

from smw._kernel.clock import SystemClock
from smw.cache.stores.deadlines import Deadlines, LagError


class Line:
    """A connection and its transport in one, over a pair of sockets."""

    def __init__(self):
        self.sock, self.other = socket.socketpair()
        self.aborted = 0

    def get_extra_info(self, name):
        assert name == "socket"
        return self.sock

    def abort(self):
        self.aborted += 1

    def close(self):
        self.sock.close()
        self.other.close()


@pytest.fixture
def line():
    made = Line()
    yield made
    made.close()


@pytest.fixture
def another():
    made = Line()
    yield made
    made.close()


@pytest.fixture
async def deadlines():
    return Deadlines(lambda line: line)


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it has not come")


async def test_what_ends_in_time_is_left_alone(deadlines, line, another):
    """One that has ended is not cut off, although another on the same timer is."""
    deadlines.begin(line, deadlines.now() + 0.02)
    deadlines.begin(another, deadlines.now() + 0.02)
    assert deadlines.end(line) is None
    await until(lambda: another.aborted)
    assert line.aborted == 0


async def test_what_the_loop_was_seen_to_be_at_work_prolongs_the_time(deadlines, line, another):
    """What came before an exchange has begun does not, and what two have seen counts once."""
    now = deadlines.now()
    deadlines.begin(line, now + 0.02)
    deadlines.busy.note(now, now + 30)
    deadlines.busy.note(now + 10, now + 40)
    assert deadlines.busy.seconds == pytest.approx(40)
    deadlines.begin(another, deadlines.now() + 0.02)
    await until(lambda: another.aborted)
    assert line.aborted == 0
    assert deadlines.end(line) is None


async def test_what_is_not_answered_is_cut_off_once(deadlines, line):
    """Whoever was waiting is told that the time was up, and the connection can be used again."""
    deadlines.begin(line, deadlines.now() + 0.02)
    await until(lambda: line.aborted)
    overrun = deadlines.end(line)
    assert type(overrun) is TimeoutError
    assert deadlines.end(line) is None
    deadlines.begin(line, deadlines.now() + 60)
    await asyncio.sleep(0.03)
    assert line.aborted == 1
    assert deadlines.end(line) is None


async def test_an_answer_in_the_socket_is_lag(deadlines, line):
    """Where bytes wait to be read, it was not the server that was too slow."""
    deadlines.begin(line, deadlines.now() + 0.02)
    line.other.send(b"x")
    await until(lambda: line.aborted)
    assert isinstance(deadlines.end(line), LagError)


@pytest.mark.timed
async def test_a_shorter_time_is_kept_beside_a_longer_one(deadlines, line, another):
    """The timer is set anew for one that ends before, and goes on for the other."""
    deadlines.begin(line, deadlines.now() + 0.3)
    deadlines.begin(another, deadlines.now() + 0.02)
    await until(lambda: another.aborted)
    assert line.aborted == 0
    await until(lambda: line.aborted)


async def test_waiting_in_vain_for_a_connection(deadlines, monkeypatch):
    """It speaks against the server, unless the loop was at work meanwhile or others were answered."""

    async def never():
        await asyncio.Event().wait()

    async def answered():
        deadlines.answered += 1
        await never()

    async def outcome(get):
        with pytest.raises(TimeoutError) as caught:
            await deadlines.obtain(deadlines.now() + 0.05, get)
        return caught.type

    monkeypatch.setattr(SystemClock, "busy", lambda: 0.0)
    assert [await outcome(never), await outcome(answered)] == [TimeoutError, LagError]
    monkeypatch.setattr(SystemClock, "busy", deadlines.now)
    assert await outcome(never) is LagError
    assert await deadlines.obtain(deadlines.now() + 5, lambda: asyncio.sleep(0, "connection")) == "connection"
