"""Blocking calls that go side by side in one thread: what is done for all of them at once, and in which order."""

from __future__ import annotations

import concurrent.futures
import time
from contextvars import ContextVar

import pytest

from smw.cache.loading.many import Outcome
from smw.cache.loading.stepping import LEASE, LOAD, RELEASE, WAIT, Wait, ask, stepped

NAME: ContextVar[str] = ContextVar("name", default="nobody")


def doing(done: list[object], what: str):
    """Return what answers with the double of what each asks about, and notes it."""

    def answer(numbers, abouts):
        done.append((what, numbers))
        return [Outcome(None, about) if isinstance(about, Exception) else Outcome(about) for about in abouts]

    return answer


def test_nobody_waits_while_others_may_wait_for_him():
    """Leases come before loads, and loads before waits, each for all who have come so far."""
    done, future = [], concurrent.futures.Future()

    async def leads(number: int) -> str:
        assert await ask(LEASE, "yours") == "yours"
        assert await ask(LOAD, number) == number
        await ask(RELEASE, number)
        future.set_result(None) if not future.done() else None
        return f"led {number}"

    async def waits() -> str:
        assert await ask(LEASE, "theirs") == "theirs"
        await ask(WAIT, Wait(future, time.monotonic() + 5))
        assert future.done()
        return "waited"

    answers = {what: doing(done, what) for what in (LEASE, LOAD, RELEASE)}
    ended = stepped([leads(0), waits(), leads(2)], answers, time.monotonic)
    assert [outcome.take() for outcome in ended] == ["led 0", "waited", "led 2"]
    assert done == [(LEASE, [0, 1, 2]), (LOAD, [0, 2]), (RELEASE, [0, 2])]


def test_a_wait_ends_in_time():
    """Who has waited long enough goes on, and the others wait on."""
    late, told = concurrent.futures.Future(), concurrent.futures.Future()

    async def waits(future, seconds: float) -> bool:
        await ask(WAIT, Wait(future, time.monotonic() + seconds))
        told.set_result(None) if future is late else None
        return future.done()

    ended = stepped([waits(late, 0.05), waits(told, 5.0)], {}, time.monotonic)
    assert [outcome.take() for outcome in ended] == [False, True]


def test_what_fails_fails_alone():
    """An error in the place of an answer is raised where it was asked for; the others end as they would."""

    async def loads(about) -> object:
        return await ask(LOAD, about)

    ended = stepped([loads(1), loads(LookupError()), loads(3)], {LOAD: doing([], LOAD)}, time.monotonic)
    assert [outcome.value for outcome in ended] == [1, None, 3]
    with pytest.raises(LookupError):
        ended[1].take()


def test_each_has_a_context_of_its_own_and_they_load_in_that_of_the_first():
    """What one has set is seen by nobody else, but by the load that the first of them asks for."""
    seen = []

    async def loads(name: str) -> str:
        NAME.set(name)
        await ask(LOAD)
        return NAME.get()

    def load(numbers, _abouts):
        seen.append(NAME.get())
        return [Outcome(None)] * len(numbers)

    ended = stepped([loads("a"), loads("b")], {LOAD: load}, time.monotonic)
    assert [outcome.take() for outcome in ended] == ["a", "b"]
    assert seen == ["a"]
    assert NAME.get() == "nobody"


def test_what_is_left_is_ended():
    """An interrupt in a load ends all calls where they are."""
    ended = []

    async def loads(number: int) -> None:
        try:
            await ask(LOAD)
        finally:
            ended.append(number)

    def interrupted(_numbers, _abouts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stepped([loads(0), loads(1)], {LOAD: interrupted}, time.monotonic)
    assert ended == [0, 1]
