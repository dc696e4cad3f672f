"""What becomes of acknowledged writes whose rounds, loops or processes end before they are through."""

from __future__ import annotations

import asyncio
import gc
import logging
import sqlite3
import threading
import weakref
from contextlib import suppress

import pytest

from smw._kernel.call import Target
from smw.cache.functions.readers import Scopes
from smw.cache.strategies import behind as behind_module
from smw.cache.strategies import rounds as rounds_module
from tests.unit.cache.test_write_back import MODES, Users, called, patient, until, where

__all__ = ["patient", "where"]


def begun(behind) -> int:
    """Return how many rows are being done, once the journal has heard of everything so far."""
    count = "SELECT count(*) FROM writes WHERE running = 1"
    return behind.open().submit(lambda connection: connection.execute(count).fetchone()[0]).result()


async def test_a_round_that_is_cancelled_at_any_step_gives_back_what_it_has_begun(bench, where):
    """Also before it knows its rows, and before the first step of one of them: the next round does them."""
    users = Users(bench.cache(**where), "async")
    behind = users.cache.behind
    for steps in range(8):
        for number in range(3):
            await users.put(number, f"Eve {steps}")
        number = behind._loops.here()
        task = asyncio.create_task(behind._rounds.run_awaiting(behind.open(), (number,)))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: begun(behind) == 0)
    await users.drain()
    assert users.names == dict.fromkeys(range(3), "Eve 7")


async def test_a_round_whose_loop_was_closed_gives_back_what_it_has_begun(bench, where):
    """Nobody resumes it; when it is collected its rows wait again."""
    users = Users(bench.cache(**where), "async")
    behind = users.cache.behind
    await users.put(1, "Eve")
    left = behind._rounds.run_awaiting(behind.open(), (behind._loops.here(),))
    left.send(None)
    left.close()
    await until(lambda: begun(behind) == 0)
    await users.drain()
    assert users.names == {1: "Eve"}


async def test_a_loop_that_ends_does_its_last_writes_alone(bench, where):
    """Nothing is begun on it any more that would be destroyed with it, and what it leaves another loop does."""
    cache = bench.cache(**where)
    loops, under_way = [], []

    @cache.cached(60)
    async def get(user_id: int) -> str:
        return "?"

    @cache.writes(get, strategy="write_back", value=lambda _result, arguments: arguments["name"])
    async def put(user_id: int, name: str) -> None:
        loops.append(asyncio.get_running_loop())
        await asyncio.to_thread(cache.behind.tick)
        under_way.extend(cache.behind._loops.under_way())
        if len(loops) == 1:
            raise OSError

    await asyncio.to_thread(asyncio.run, put(1, "Eve"))
    assert (len(loops), under_way) == (1, [])
    bench.clock.advance(1)
    await get(2)
    await asyncio.to_thread(cache.behind.tick)
    for done in cache.behind._loops.under_way():
        await asyncio.wrap_future(done)
    assert loops[1:] == [asyncio.get_running_loop()]


async def test_a_loop_that_is_closed_by_hand_leaves_its_writes_to_another(bench, where):
    """Also where nobody has shut its generators down before."""
    users = Users(bench.cache(**where), "async")

    def elsewhere() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(users.put(1, "Eve"))
        loop.close()

    await asyncio.to_thread(elsewhere)
    await users.read(2)
    await users.drain()
    assert users.names == {1: "Eve"}


async def test_a_function_that_raises_as_if_cancelled_has_failed(bench, where):
    """It is tried again after a pause, and the others of its round go on."""
    users = Users(bench.cache(**where), "async")
    users.failing = asyncio.CancelledError()
    for number in range(3):
        await users.put(number, "Eve")
    await users.drain()
    assert (len(users.writes), users.counts()) == (3, {"pending": 3, "failed_total": 3})
    users.failing = None
    bench.clock.advance(1)
    await users.drain()
    assert users.names == dict.fromkeys(range(3), "Eve")


@MODES
async def test_a_journal_that_does_not_hear_of_a_failure_hears_of_it_in_the_next_round(bench, where, mode, monkeypatch):
    """A disk that is full for a moment keeps no write back for good."""
    users = Users(bench.cache(**where), mode)

    def full(_connection):
        raise sqlite3.OperationalError("database or disk is full")

    users.failing = OSError("down")
    await called(users.put(1, "Eve"))
    refused, give_back = [], rounds_module.give_back
    monkeypatch.setattr(
        rounds_module, "give_back", lambda rows: give_back(rows) if refused else refused.append(rows) or full
    )
    with suppress(sqlite3.Error):  # what was to be done in the same transaction
        await users.drain()
    users.failing = None
    bench.clock.advance(1)
    for _ in range(3):
        await users.drain()
    assert refused == [[(1, 1)]]
    assert users.names == {1: "Eve"}


async def test_a_write_whose_caller_stops_waiting_is_done(bench):
    """Once it is in the journal somebody does it, and the cache is held until then."""
    users = Users(bench.cache(), "async")
    behind = users.cache.behind
    task = asyncio.create_task(users.put(1, "Eve"))
    while behind._journal is None or not behind.waiting_writers():  # noqa: ASYNC110 - its very step, not a while after
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert behind._thread is not None
    assert list(behind._drainer._owing.values()) == [behind]


async def test_who_hears_that_a_write_is_taken_may_write_another(bench, where):
    """What is called when the journal has something is not within it, and so waits for it as anybody does."""
    users = Users(bench.cache(**where))
    users.put(1, "Eve")
    told = asyncio.get_running_loop().create_future()

    def hear(_future: object) -> None:
        users.put(2, "Bob")
        told.get_loop().call_soon_threadsafe(told.set_result, None)

    users.cache.behind.open().submit(lambda _: None).add_done_callback(hear)
    async with asyncio.timeout(20):
        await told
    await users.drain()
    assert users.names == {1: "Eve", 2: "Bob"}


async def test_rounds_meet_failures_of_others(bench, where, monkeypatch):
    """While one looks at what waits for its time, another thread adds to it, and what is remembered for long goes."""
    users = Users(bench.cache(**where))
    rounds, journal = users.cache.behind._rounds, users.cache.behind.open()

    class Later(float):
        """A time of which it is told, while all are looked at, that another write has failed."""

        def __gt__(self, other: float) -> bool:
            rounds._again[len(rounds._again)] = 0.0
            return float.__gt__(self, other)

        def __le__(self, other: float) -> bool:
            rounds._again[len(rounds._again)] = 0.0
            return float.__le__(self, other)

    monkeypatch.setattr(rounds_module, "_REMEMBERED", 2)
    users.put(1, "Eve")
    rounds._again[0] = Later(0)
    rounds._first = dict.fromkeys(range(-4, 0), 0)
    assert rounds.again_s() > 0
    assert rounds.run(journal, (0,))
    assert users.names == {1: "Eve"}
    assert list(rounds._first) == [-3, -2, -1]


async def test_an_event_loop_goes_on_while_a_write_is_moved_to_the_dead(bench, tmp_path, monkeypatch):
    """And readers are told once it is there."""
    monkeypatch.setattr(rounds_module, "OUTAGE", 1)
    cache = bench.cache(state_dir=tmp_path)
    free, through, loop = threading.Event(), [], asyncio.get_running_loop()

    @cache.cached(60)
    async def get(user_id: int) -> str:
        return "old"

    @cache.writes(get, strategy="write_back", value=lambda _result, arguments: "new")
    async def put(user_id: int) -> None:
        cache.behind.open().submit(lambda _: through.append(free.wait(20)))
        loop.call_soon(loop.call_soon, loop.call_soon, free.set)
        raise OSError

    await put(1)
    await asyncio.to_thread(cache.behind.tick)
    for done in cache.behind._loops.under_way():
        await asyncio.wrap_future(done)
    assert through == [True]
    assert cache.behind._rounds.dead.total() == 1
    assert await get(1) == "old"


@pytest.mark.parametrize("way", ["read", "write", "drop"])
async def test_an_event_loop_goes_on_while_the_journal_is_opened(bench, tmp_path, monkeypatch, way):
    """Whatever comes first: a reader that misses, a write, or a drop that waits for a commit."""
    threads, open_journal = [], behind_module.open_journal

    def opened(*args):
        threads.append(threading.current_thread())
        return open_journal(*args)

    monkeypatch.setattr(behind_module, "open_journal", opened)
    users = Users(bench.cache("l2", state_dir=tmp_path), "async")
    if way == "read":
        await users.read(1)
    elif way == "write":
        await users.put(1, "Eve")
    else:
        await users.cache.behind.outbox.note(Scopes(("user:1",), ()), "async")
    assert len(threads) == 1
    assert threading.current_thread() not in threads


async def test_writes_of_a_function_that_nobody_here_knows_are_told_once(bench, tmp_path, caplog):
    """They wait, and what waits behind them is written by nobody: somebody must hear of it."""
    before = Users(bench.cache(state_dir=tmp_path, drain_s=0.05))
    before.failing = OSError("down")
    before.put(1, "Eve")
    before.cache.close()
    after = bench.cache(state_dir=tmp_path)
    after.behind._names = tuple
    with caplog.at_level(logging.WARNING, "smw.cache"):
        for _ in range(2):
            after.behind.tick()
    (told,) = [record.getMessage() for record in caplog.records if "has not imported" in record.getMessage()]
    assert told.startswith(
        f"1 acknowledged writes of a process that ended are of {before.put.__smw_stack__.target.name},"
    )


def test_what_packs_arguments_holds_no_function(bench):
    """One that is gone is collected, with what was compiled for it."""
    letters, target = bench.cache().behind.letters, Target(lambda user_id: user_id)
    letters._of_arguments(target)
    gone = weakref.ref(target)
    del target
    gc.collect()
    assert gone() is None
    assert not letters._codecs
