"""Closing a cache brings what was acknowledged to its source, also one that fails for a moment, and has a bound."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
import weakref

import pytest

from smw._kernel.clock import SystemClock
from smw.cache.strategies import behind as behind_module
from smw.cache.strategies import buffered, turnstile
from tests.unit.cache.test_write_back import MODES, Users, called, patient, until, where

__all__ = ["patient", "where"]


class Down:
    """Raises at the first calls for each key, then no more."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.done: dict[int, str] = {}
        self.calls: list[int] = []

    def write(self, user_id: int, name: str) -> None:
        self.calls.append(user_id)
        if self.calls.count(user_id) <= self.times:
            raise OSError
        self.done[user_id] = name


def writer(cache, source, mode):
    """Return a function that acknowledges writes to `source`."""

    def read(user_id: int) -> str:
        return "?"

    async def read_async(user_id: int) -> str:
        return "?"

    async def write_async(user_id: int, name: str) -> None:
        source.write(user_id, name)

    def write(user_id: int, name: str) -> None:
        source.write(user_id, name)

    get = cache.cached(60)(read if mode == "sync" else read_async)
    back = cache.writes(get, strategy="write_back", value=lambda _result, arguments: arguments["name"])
    return back(write if mode == "sync" else write_async)


@MODES
async def test_closing_tries_again_what_fails(bench, where, mode, monkeypatch):
    """After the usual pauses, until it is done or closing has taken as long as it may."""
    monkeypatch.setattr(bench, "clock", SystemClock())
    cache, source = bench.cache(**where, drain_s=60), Down(1)
    put = writer(cache, source, mode)
    for number in range(3):
        await called(put(number, "Eve"))
    await cache.aclose()
    assert source.done == dict.fromkeys(range(3), "Eve")


def test_closing_does_what_loops_that_have_ended_have_left(bench, where, monkeypatch):
    """Where no event loop goes on one is made for it."""
    monkeypatch.setattr(bench, "clock", SystemClock())
    cache, source = bench.cache(**where, drain_s=60), Down(1)
    put = writer(cache, source, "async")
    asyncio.run(put(1, "Eve"))
    assert source.done == {}
    idle = asyncio.new_event_loop()
    idle.run_until_complete(put(2, "Bob"))
    cache.close()
    idle.run_until_complete(idle.shutdown_asyncgens())
    idle.close()
    assert source.done == {1: "Eve", 2: "Bob"}


async def test_closing_leaves_a_disk_that_takes_too_long(bench, tmp_path, monkeypatch):
    """All of closing has one bound; what the journal is doing it ends by itself, and takes nothing more."""
    monkeypatch.setattr(behind_module, "_CLOSE_S", 0.05)
    users = Users(bench.cache(state_dir=tmp_path, drain_s=0.05))
    users.put(1, "Eve")
    journal, free, through = users.cache.behind.open(), threading.Event(), []
    journal.submit(lambda _: through.append(free.wait(20)))
    users.cache.close()
    assert through == []
    late = journal.submit(lambda _: None)
    assert isinstance(late.exception(0), sqlite3.ProgrammingError)
    assert journal.is_closed
    free.set()
    await until(lambda: journal._is_closed)
    after = Users(bench.cache(state_dir=tmp_path))
    after.cache.behind.tick()
    assert after.names == {1: "Eve"}


def test_who_waits_for_a_turn_is_before_who_has_had_one(tmp_path, monkeypatch):
    """A process that writes all the time gets in between two writes of another one, and not the other way round."""
    monkeypatch.setattr(turnstile, "_MOST_S", 60.0)
    busy, other = turnstile.Turnstile(tmp_path), turnstile.Turnstile(tmp_path)
    order = []

    def wait() -> None:
        with other.turn():
            order.append("other")

    waiting = threading.Thread(target=wait)
    with busy.turn():
        waiting.start()
        with (tmp_path / "door.lock").open() as door:
            while not is_locked(door):
                pass
    with busy.turn():
        order.append("busy")
    waiting.join(60)
    assert order == ["other", "busy"]
    busy.close()
    other.close()


def is_locked(file) -> bool:
    """Whether somebody else has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


async def test_a_process_that_was_stopped_in_its_turn_keeps_nobody_from_writing(bench, tmp_path, monkeypatch):
    """After a moment the database alone decides, whose lock it may not have."""
    monkeypatch.setattr(turnstile, "_MOST_S", 0.01)
    users = Users(bench.cache(state_dir=tmp_path))
    users.put(1, "Eve")
    stopped = turnstile.Turnstile(tmp_path / "shop")
    with stopped.turn():
        users.put(1, "Bob")
        await users.drain()
    stopped.close()
    assert users.names == {1: "Bob"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_within_a_transaction_can_write(bench, tmp_path):
    """The fork waits for its end: SQLite would tell the child for good that the database is locked."""
    users = Users(bench.cache(state_dir=tmp_path))
    users.put(1, "Eve")
    begun = threading.Event()
    users.cache.behind.open().submit(lambda _: begun.set() or threading.Event().wait(0.3))
    begun.wait(20)
    pid = os.fork()
    if pid == 0:
        users.put(2, "Bob")
        os._exit(len(users.writes))  # none, for it was acknowledged
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    users.cache.behind.tick()
    assert users.names[1] == "Eve"


@MODES
async def test_what_is_buffered_is_written_at_the_end_of_the_interpreter(bench, tmp_path, monkeypatch, mode):
    """Also where nobody closes the cache; what is on disk is left to the next start, which may be quicker."""
    monkeypatch.setattr(buffered, "_living", weakref.WeakSet())
    disk = Users(bench.cache(state_dir=tmp_path), mode)
    await called(disk.put(1, "Eve"))
    buffer = Users(bench.cache(), mode)
    await called(buffer.put(1, "Eve"))
    await asyncio.to_thread(buffered._finish_all)
    assert (buffer.names, disk.names) == ({1: "Eve"}, {})


async def test_closing_strikes_what_is_done_of_a_round_that_goes_on(bench, tmp_path):
    """Of what one round has begun the next start does only what was not done: that may be most of a hundred."""
    first, free = Users(bench.cache(state_dir=tmp_path, drain_s=0.2)), threading.Event()
    first.put(1, "Eve")
    first.put(2, "Bob")
    first.block = type("Gate", (), {"wait": lambda _self, most_s: first.names and free.wait(most_s)})()
    await asyncio.to_thread(first.cache.close)
    after = Users(bench.cache(state_dir=tmp_path))
    after.cache.behind.tick()
    free.set()
    assert first.names[1] == "Eve"
    assert after.names == {2: "Bob"}
