"""Waits that no context variable tells of: through threads, pools and queues that know nothing of the load."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import pytest

from smw._kernel import aloft
from smw._kernel.blocked import is_awaited_by
from smw._kernel.flight import Flights, RecursiveLoadError


def run_now(coroutine: Any) -> Any:
    """Drive a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("suspended")


def in_pool(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def mapped(work):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda _: work(), [1, 2]))


def at_the_end_of_a_block(work):
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(work)
    return job.result()


def in_thread(work):
    errors = []

    def run():
        try:
            work()
        except RecursiveLoadError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise errors[0]


def without_context(work):
    return contextvars.Context().run(work)


def told(call) -> RecursiveLoadError:
    """Return what is raised by a call that must not hang."""
    raised: list[RecursiveLoadError] = []

    def run():
        try:
            call()
        except RecursiveLoadError as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert raised, "it hangs, or has returned"
    return raised[0]


@pytest.mark.parametrize("elsewhere", [in_pool, mapped, at_the_end_of_a_block, in_thread, without_context])
def test_a_load_that_waits_for_itself_through_another_thread_is_told(elsewhere):
    """Whoever is waited for by the leader and would wait for it gets the error, with the name of what is loaded."""
    flights = Flights("shop:prices")

    async def load() -> Any:
        return elsewhere(lambda: run_now(flights.fly("k", load, "sync")))

    error = told(lambda: run_now(flights.fly("k", load, "sync")))
    assert "shop:prices" in str(error)


def test_work_for_another_key_in_a_pool_is_no_circle():
    """A leader that waits for a pool is no circle for threads that the pool does not concern."""
    flights, begun = Flights(), threading.Event()

    async def inner() -> int:
        begun.set()
        threading.Event().wait(0.3)
        return 1

    async def outer() -> int:
        return in_pool(lambda: run_now(flights.fly("inner", inner, "sync"))) + 1

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(lambda: run_now(flights.fly("outer", outer, "sync")))
        assert begun.wait(5)
        follower = pool.submit(lambda: run_now(flights.fly("outer", outer, "sync")))
        assert (leader.result(10), follower.result(10)) == (2, 2)


@pytest.mark.parametrize(
    ("how", "is_one"),
    [
        (lambda job: job.result(), True),
        (lambda job: job.result(30), False),
        (lambda job: wait([job], return_when=FIRST_COMPLETED), False),
    ],
)
def test_a_wait_that_may_end_otherwise_is_not_taken_for_a_circle(how, is_one):
    """A time-out, or another future, may end it: only what must deadlock counts."""
    seen, go = [], threading.Event()

    def job(waiter: int) -> None:
        go.wait(5)
        for _ in range(50):
            seen.append(is_awaited_by(waiter))
            if seen[-1]:
                return
            threading.Event().wait(0.002)

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(job, threading.get_ident())
        go.set()
        how(work)
    assert any(seen) is is_one


def test_a_circle_that_nobody_can_see_ends_as_well(monkeypatch):
    """Through a queue: after a while the worker loads too, and what it returns ends all waits."""
    monkeypatch.setattr(aloft, "RELIEF_S", 0.2)
    told, jobs, loads = [], queue.Queue(), []
    flights = Flights(overdue=lambda: told.append(1))

    def worker() -> None:
        answers = jobs.get()
        answers.put(run_now(flights.fly("k", load, "sync")))

    async def load() -> Any:
        loads.append(1)
        if len(loads) > 1:
            return "second"
        answers: queue.Queue[str] = queue.Queue()
        jobs.put(answers)
        return answers.get(timeout=20)

    threading.Thread(target=worker, daemon=True).start()
    assert run_now(flights.fly("k", load, "sync")) == "second"
    assert (len(loads), told, len(flights)) == (2, [1], 0)


async def test_of_those_who_wait_long_one_loads_too_and_all_get_what_comes_first(monkeypatch):
    """One at a time, so that a slow source is not called by everybody at once; the slow leader keeps its own result."""
    monkeypatch.setattr(aloft, "RELIEF_S", 0.3)
    flights, loads, gate = Flights(), [], asyncio.Event()

    async def load() -> str:
        loads.append(1)
        if len(loads) > 1:
            return "second"
        await gate.wait()
        return "first"

    leader = asyncio.create_task(flights.fly("k", load, "async"))
    await asyncio.sleep(0)
    followers = [asyncio.create_task(flights.fly("k", load, "async")) for _ in range(20)]
    assert await asyncio.wait_for(asyncio.gather(*followers), 20) == ["second"] * 20
    assert len(loads) == 2
    gate.set()
    assert await leader == "first"
    assert len(flights) == 0
