"""One load per key, whoever asks and however it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
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


async def test_every_waiter_gets_the_loaders_exception() -> None:
    """An exception is shared once, to all, and nothing is left behind."""
    flights = Flights()

    async def load() -> str:
        await asyncio.sleep(0.01)
        raise LookupError("gone")

    results = await asyncio.gather(*(flights.fly("k", load, "async") for _ in range(10)), return_exceptions=True)
    assert all(isinstance(result, LookupError) for result in results)
    assert len(flights) == 0


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
