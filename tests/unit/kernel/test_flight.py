"""One load per key, whoever asks and however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import traceback
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from smw._kernel.flight import Flights, RecursiveLoadError


def run_now(coroutine: Any) -> Any:
    """Drive a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("suspended")


async def test_coroutines_share_one_load() -> None:
    """A hundred callers of a cold key cause one run."""
    flights, runs = Flights(), []

    async def load() -> str:
        runs.append(1)
        await asyncio.sleep(0.02)
        return "value"

    results = await asyncio.gather(*(flights.fly("k", load, "async") for _ in range(100)))
    assert results == ["value"] * 100
    assert len(runs) == 1
    assert len(flights) == 0


def test_threads_share_one_load() -> None:
    """Blocking callers in many threads cause one run."""
    flights, runs, gate = Flights(), [], threading.Barrier(8)

    async def load() -> str:
        runs.append(1)
        threading.Event().wait(0.05)
        return "value"

    def call() -> Any:
        gate.wait()
        return run_now(flights.fly("k", load, "sync"))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: call(), range(8)))
    assert results == ["value"] * 8
    assert len(runs) == 1


def test_loops_in_different_threads_share_one_load() -> None:
    """Coroutines of two event loops wait for the same run."""
    flights, runs, gate = Flights(), [], threading.Barrier(2)

    async def load() -> str:
        runs.append(1)
        await asyncio.sleep(0.05)
        return "value"

    def loop() -> Any:
        gate.wait()
        return asyncio.run(flights.fly("k", load, "async"))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: loop(), range(2))) == ["value"] * 2
    assert len(runs) == 1


async def test_a_cancelled_leader_harms_nobody() -> None:
    """Followers get the value although the caller that started the load was cancelled."""
    flights, runs = Flights(), []

    async def load() -> str:
        runs.append(1)
        await asyncio.sleep(0.05)
        return "value"

    leader = asyncio.create_task(flights.fly("k", load, "async"))
    await asyncio.sleep(0)
    followers = [asyncio.create_task(flights.fly("k", load, "async")) for _ in range(9)]
    await asyncio.sleep(0.01)
    leader.cancel()
    assert await asyncio.gather(*followers) == ["value"] * 9
    assert leader.cancelled()
    assert len(runs) == 1


async def test_the_load_is_cancelled_with_its_last_waiter() -> None:
    """When everybody has gone the load stops too, and a later caller starts afresh."""
    flights, ended = Flights(), []

    async def load() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "never"

    tasks = [asyncio.create_task(flights.fly("k", load, "async")) for _ in range(3)]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert ended == ["cancelled"]

    async def again() -> str:
        return "fresh"

    assert await flights.fly("k", again, "async") == "fresh"


class Unlike(LookupError):
    """An exception that cannot be copied."""

    def __reduce_ex__(self, _protocol: Any) -> Any:
        raise TypeError

    def __new__(cls, *args: Any) -> Any:
        assert args
        return super().__new__(cls, *args)


def failing(kind: type[Exception], gate: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[str]]:
    """Return a load that fails for a reason, in a function of its own."""

    async def load() -> str:
        await gate()
        error = kind("gone")
        error.add_note("of the load")
        raise error from KeyError("cause")

    return load


def checked(errors: list[Any], kind: type[Exception]) -> None:
    """All of one kind, each with the frames of the load and not of other waiters, and no other's notes."""
    assert [(type(error), error.args, error.__cause__.args) for error in errors] == [(kind, ("gone",), ("cause",))] * 10
    assert all(error.__suppress_context__ for error in errors)
    for error in errors:
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert frames.count("load") == 1
        assert len(frames) < 12
    if kind is not Unlike:
        assert len({id(error) for error in errors}) == 10
        assert [error.__notes__ for error in errors] == [["of the load", "of a waiter"]] * 10


@pytest.mark.parametrize("kind", [LookupError, Unlike])
async def test_every_waiter_gets_the_loaders_exception(kind: type[Exception]) -> None:
    """Each has it as its own, and nothing is left behind."""
    flights = Flights()

    async def waits() -> Any:
        try:
            await flights.fly("k", failing(kind, lambda: asyncio.sleep(0.01)), "async")
        except LookupError as error:
            error.add_note("of a waiter")
            return error

    checked(await asyncio.gather(*(waits() for _ in range(10))), kind)
    assert len(flights) == 0


def test_every_thread_gets_the_loaders_exception() -> None:
    """The traceback grows with no waiter, and what one notes is no other's."""
    flights, errors = Flights(), []

    async def gate() -> None:
        while next(iter(flights._flights.values())).waiters < 10:
            time.sleep(0.001)  # noqa: ASYNC251 - it runs without an event loop

    def waits() -> None:
        try:
            run_now(flights.fly("k", failing(LookupError, gate), "sync"))
        except LookupError as error:
            error.add_note("of a waiter")
            errors.append(error)

    threads = [threading.Thread(target=waits) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    checked(errors, LookupError)


def test_a_closed_loop_does_not_strand_followers_elsewhere() -> None:
    """When the leader's loop ends early, a follower in another thread loads for itself."""
    flights, started = Flights(), threading.Event()

    async def slow() -> str:
        started.set()
        await asyncio.sleep(30)
        return "never"

    async def fast() -> str:
        return "own"

    async def lead_briefly() -> None:
        task = asyncio.create_task(flights.fly("k", slow, "async"))
        await asyncio.sleep(0.1)
        task.cancel()

    leader = threading.Thread(target=lambda: asyncio.run(lead_briefly()))
    leader.start()
    started.wait(5)
    assert asyncio.run(flights.fly("k", fast, "async")) == "own"
    leader.join()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_loader_that_asks_for_itself_is_told(mode: Any) -> None:
    """The same key inside its own load raises instead of waiting for ever."""
    flights = Flights()

    async def load() -> Any:
        return await flights.fly("k", load, mode)

    run: Callable[[Any], Any] = run_now if mode == "sync" else asyncio.run
    with pytest.raises(RecursiveLoadError, match="__wrapped__"):
        run(flights.fly("k", load, mode))


async def test_loads_that_wait_for_each_other_do_not_deadlock() -> None:
    """a needs b while b needs a: one of them loads for itself and both end."""
    flights = Flights()

    async def leaf() -> str:
        return "leaf"

    async def needs(other: str) -> Any:
        await asyncio.sleep(0.01)
        return await flights.fly(other, leaf, "async")

    both = asyncio.gather(flights.fly("a", lambda: needs("b"), "async"), flights.fly("b", lambda: needs("a"), "async"))
    assert await asyncio.wait_for(both, 2) == ["leaf", "leaf"]


def test_threads_that_wait_for_each_other_do_not_deadlock() -> None:
    """The same circle between two threads."""
    flights, gate = Flights(), threading.Barrier(2)

    async def leaf() -> str:
        return "leaf"

    def needs(other: str) -> Any:
        async def load() -> Any:
            gate.wait(2)
            return await flights.fly(other, leaf, "sync")

        return load

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: run_now(flights.fly("a", needs("b"), "sync")))
        second = pool.submit(lambda: run_now(flights.fly("b", needs("a"), "sync")))
        assert (first.result(5), second.result(5)) == ("leaf", "leaf")


async def test_a_load_that_nobody_waits_for_runs_to_its_end_and_whoever_comes_joins_it():
    """It begins once, in a task of its own, and its result reaches who asks for the key meanwhile."""
    flights, gate, runs = Flights(), asyncio.Event(), []

    async def load() -> int:
        runs.append(1)
        await gate.wait()
        return 7

    assert flights.depart("k", load, "async") is not None
    assert flights.depart("k", load, "async") is None
    follower = asyncio.create_task(flights.fly("k", load, "async"))
    await asyncio.sleep(0.01)
    gate.set()
    assert await follower == 7
    assert (runs, len(flights)) == ([1], 0)


def test_in_mode_sync_who_begins_the_load_runs_it():
    """A blocking load stays in the thread that began it, and a second one does not begin."""
    flights, seen = Flights(), []

    async def load() -> int:
        seen.append((threading.current_thread(), flights.depart("k", load, "sync")))
        return 7

    assert run_now(flights.depart("k", load, "sync")) == 7
    assert seen == [(threading.current_thread(), None)]


async def test_the_error_of_a_load_that_nobody_waits_for_is_nobodys():
    """Nothing is reported as never retrieved, and the key is free again."""
    flights, reported = Flights(), []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))

    async def load() -> int:
        raise ValueError

    flights.depart("k", load, "async")
    await asyncio.sleep(0.01)
    gc.collect()
    assert (reported, len(flights)) == ([], 0)


async def test_what_a_load_is_begun_in_does_not_matter_to_it():
    """One that is begun from within another is no part of it, and may wait for it."""
    flights, departed = Flights(), []

    async def outer() -> int:
        departed.append(flights.depart("b", inner, "async"))
        await asyncio.sleep(0.01)
        return 1

    async def inner() -> int:
        return await flights.fly("a", outer, "async") + 1

    assert await flights.fly("a", outer, "async") == 1
    assert await departed[0] == 2


async def test_who_has_waited_long_enough_gets_something_else_and_the_load_goes_on():
    """Steps come in their order; one that has nothing to give lets the caller wait on."""
    flights, gate, asked = Flights(), asyncio.Event(), []

    async def load() -> str:
        await gate.wait()
        return "loaded"

    def step(name: str, given: tuple[str] | None):
        async def ask() -> tuple[str] | None:
            asked.append(name)
            return given

        return ask

    meanwhile = ((0.01, step("first", None)), (0.03, step("second", ("old",))))
    assert await flights.fly("k", load, "async", meanwhile=meanwhile) == "old"
    assert await flights.fly("k", load, "async", meanwhile=((0.01, step("third", ("older",))),)) == "older"
    assert asked == ["first", "second", "third"]
    waiting = asyncio.create_task(flights.fly("k", load, "async"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.sleep(0.01)
    assert len(flights) == 1
    last = asyncio.create_task(flights.fly("k", load, "async", meanwhile=((10, step("never", None)),)))
    await asyncio.sleep(0.01)
    gate.set()
    assert await last == "loaded"
    assert len(flights) == 0


async def test_an_error_of_a_step_ends_the_wait_alone():
    """The caller gets it, the load goes on."""
    flights, gate, landed = Flights(), asyncio.Event(), []

    async def load() -> None:
        await gate.wait()
        landed.append(1)

    async def ask() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await flights.fly("k", load, "async", meanwhile=((0.01, ask),))
    gate.set()
    await asyncio.sleep(0.01)
    assert landed == [1]


@pytest.mark.parametrize("gives", [True, False])
def test_a_thread_that_follows_may_leave(gives):
    """It gets what a step gives, or waits on for the result of the thread that loads."""
    flights, gate = Flights(), threading.Event()
    loading, left = threading.Event(), threading.Event()

    async def load() -> str:
        loading.set()
        assert gate.wait(5)
        return "loaded"

    async def ask() -> tuple[str] | None:
        left.set()
        return ("old",) if gives else None

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(lambda: run_now(flights.fly("k", load, "sync")))
        assert loading.wait(5)
        follower = pool.submit(lambda: run_now(flights.fly("k", load, "sync", meanwhile=((0.01, ask),))))
        assert left.wait(5)
        if gives:
            assert follower.result(5) == "old"
        gate.set()
        assert leader.result(5) == "loaded"
        assert follower.result(5) == ("old" if gives else "loaded")


async def test_an_error_that_looks_like_a_timeout_is_the_loaders():
    """A `TimeoutError` of the loader reaches who waits with patience as it reaches everybody."""
    flights = Flights()

    async def load() -> None:
        raise TimeoutError("mine")

    async def ask() -> None:
        raise AssertionError

    with pytest.raises(TimeoutError, match="mine"):
        await flights.fly("k", load, "async", meanwhile=((1, ask),))


async def test_closing_ends_what_nobody_waits_for():
    """`aclose` waits for its end; what somebody waits for goes on."""
    flights, ended = Flights(), []

    async def load() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    async def attended() -> int:
        await asyncio.sleep(0.02)
        return 7

    flights.depart("k", load, "async")
    waiting = asyncio.create_task(flights.fly("other", attended, "async"))
    await asyncio.sleep(0.01)
    await flights.aclose()
    assert (ended, await waiting) == ([1], 7)
    await flights.aclose()


def test_a_loop_ends_cleanly_with_loads_that_nobody_waits_for(recwarn, caplog):
    """Neither the end of `asyncio.run` nor closing from another thread later reports a task."""
    flights = Flights()

    async def load() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        flights.depart("k", load, "async")
        await asyncio.sleep(0)

    asyncio.run(main())
    flights.close()
    gc.collect()
    assert (list(recwarn), caplog.records) == ([], [])


async def test_who_leaves_a_load_whose_loop_has_closed_is_cancelled_and_nothing_else() -> None:
    """The last one to leave a flight cannot reach its loop any more, which is no error of his."""
    flights, is_begun, is_closed = Flights(), threading.Event(), threading.Event()

    async def load() -> None:
        is_begun.set()
        await asyncio.sleep(30)

    def lead() -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _loop, _context: None)  # the load ends with its loop, which would be told
        with pytest.raises(TimeoutError):
            loop.run_until_complete(asyncio.wait_for(flights.fly("k", load, "async"), 0.2))
        loop.close()
        is_closed.set()

    leader = threading.Thread(target=lead)
    leader.start()
    await asyncio.to_thread(is_begun.wait, 10)
    follower = asyncio.ensure_future(flights.fly("k", load, "async"))
    await asyncio.to_thread(is_closed.wait, 10)
    follower.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower
    leader.join()


class Held:
    """What a load has in its hands."""


@pytest.mark.parametrize("callers", [1, 3])
@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_load_that_fails_leaves_nothing_to_the_collector(mode: Any, callers: int) -> None:
    """Its frames, with all that it had in its hands, end with its error, and not some time later."""
    flights, held = Flights(), list[weakref.ref[Held]]()

    async def load() -> None:
        mine = Held()
        held.append(weakref.ref(mine))
        if mode == "async":
            await asyncio.sleep(0)
        raise ValueError(len(held))

    async def call() -> None:
        with contextlib.suppress(ValueError):
            await flights.fly("k", load, mode)

    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await asyncio.gather(*[call() for _ in range(callers)])
            for _ in range(5):
                await asyncio.sleep(0)
        assert [each() for each in held] == [None] * len(held)
    finally:
        gc.enable()


def test_a_leader_that_was_broken_off_before_it_began_keeps_nobody_waiting() -> None:
    """The handler of a signal may raise between two steps: the next caller loads, and so does who waits already."""
    flights = Flights()

    async def load() -> str:
        return "value"

    leads = flights.fly("k", load, "sync")
    assert "k" in flights
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(lambda: run_now(flights.fly("k", load, "sync")))
        while flights._flights["k"].waiters < 2:
            time.sleep(0.001)
        leads.close()
        assert waits.result(30) == "value"
    flights.fly("k", load, "sync").close()
    assert "k" not in flights
    assert run_now(flights.fly("k", load, "sync")) == "value"


def test_a_leader_that_was_broken_off_when_it_had_landed_hands_out_nothing_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who comes after that loads anew, also in the thread of the one that was broken off: it calls for nothing old."""
    flights, answers = Flights(), iter(["old", "new"])

    async def load() -> str:
        return next(answers)

    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(flights, "_leave", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_now(flights.fly("k", load, "sync"))
    assert "k" not in flights
    assert run_now(flights.fly("k", load, "sync")) == "new"
