"""Binding late, failing loudly, answering early: what the chain decides."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from smw._kernel import current
from smw._kernel.call import Call, Target
from smw._kernel.chain import Advice, Bound, Proceed, advise
from smw.errors import DecorationError, SmwError
from tests.unit.kernel.advices import Geared, Hit, Recorder, Suspends, record


def test_the_runtime_is_looked_up_at_first_call_and_again_after_a_switch() -> None:
    """Decorating binds nothing; a new current runtime makes the next call bind again."""
    advice = Recorder("a", [])

    @advise(advice)
    def fn() -> int:
        return 1

    assert advice.binds == 0
    fn()
    fn()
    assert advice.binds == 1
    before = current.use(None)
    try:
        fn()
    finally:
        current.use(before)
    assert advice.binds == 2


def test_a_synchronous_call_never_suspends() -> None:
    """An advice that needs an event loop is named instead of hanging the call."""

    @advise(Suspends())
    def fn() -> int:
        return 1

    with pytest.raises(SmwError, match="SMW-K101"):
        fn()


def test_exceptions_pass_through_every_layer_unchanged() -> None:
    """The caller gets the function's own exception object."""
    log: list[Any] = []
    error = KeyError("mine")

    @record("a", log)
    def fn() -> None:
        raise error

    with pytest.raises(KeyError) as raised:
        fn()
    assert raised.value is error
    assert log[-1] == ("a", "KeyError")


async def test_cancellation_reaches_the_function_and_the_advice() -> None:
    """Cancelling the caller cancels the function; the advice sees it."""
    log: list[Any] = []
    cleaned = asyncio.Event()

    @record("a", log)
    async def fn() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.set()

    task = asyncio.create_task(fn())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set()
    assert log[-1] == ("a", "CancelledError")


class _Stepping(Advice):
    name = "trace"

    def __init__(self, factory: Any) -> None:
        self.factory = factory

    def bind(self, target: Target) -> Bound:
        async def around(call: Call, proceed: Proceed) -> Any:
            call.each_step(self.factory)
            return await proceed()

        return Bound(around)


def test_step_contexts_cover_the_generator_but_not_its_consumer() -> None:
    """A context variable set around each step is visible inside and never leaks out."""
    inside: ContextVar[str] = ContextVar("inside", default="no")

    @contextmanager
    def step() -> Generator[None, None, None]:
        token = inside.set("yes")
        yield
        inside.reset(token)

    def factory() -> AbstractContextManager[None]:
        return step()

    @advise(_Stepping(factory))
    def gen() -> Generator[str, None, None]:
        yield inside.get()
        yield inside.get()

    for seen in gen():
        assert (seen, inside.get()) == ("yes", "no")


async def test_step_contexts_cover_async_generators() -> None:
    """The same around the awaits of an async generator, cancellation included."""
    inside: ContextVar[str] = ContextVar("inside", default="no")

    @contextmanager
    def step() -> Generator[None, None, None]:
        token = inside.set("yes")
        try:
            yield
        finally:
            inside.reset(token)

    cleaned: list[str] = []

    @advise(_Stepping(step))
    async def gen() -> AsyncGenerator[str, None]:
        try:
            await asyncio.sleep(0)
            yield inside.get()
            await asyncio.sleep(0)
            yield inside.get()
            await asyncio.sleep(30)
        finally:
            cleaned.append(inside.get())

    early = gen()
    await early.__anext__()
    await early.aclose()

    seen: list[tuple[str, str]] = []

    async def consume() -> None:
        async for item in gen():
            seen.append((item, inside.get()))  # noqa: PERF401 - what the consumer sees between two steps is the point

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [("yes", "no"), ("yes", "no")]
    assert cleaned == ["yes", "yes"], "closed early and cancelled: the cleanup runs inside a step too"


def test_the_fast_gear_answers_without_the_chain() -> None:
    """A fresh entry is returned at once, counted and marked; a stale one goes the slow way."""
    now = [100.0]
    advice = Geared(lambda: now[0])

    @advise(advice)
    def fn(x: int, *, lang: str = "en") -> str:
        return f"{x}-{lang}"

    assert fn(1) == "1-en"
    advice.table[1, "en"] = hit = Hit("kept", 101.0)
    assert fn(1) == "kept"
    assert fn(x=1, lang="en") == "kept"
    assert (advice.counter.hits, hit.touched, advice.slow_calls) == (2, 1, 1)
    now[0] = 102.0
    assert fn(1) == "1-en"


@pytest.mark.parametrize("odd", [True, 1.0, (1,), b"1", type("I", (int,), {})(1)])
def test_the_fast_gear_never_mixes_equal_keys_of_other_types(odd: Any) -> None:
    """1, True and 1.0 are equal as dictionary keys and still never share an answer."""
    advice = Geared(lambda: 0.0)

    @advise(advice)
    def fn(x: Any) -> str:
        return "computed"

    fn(1)
    advice.table[1] = Hit("kept", 1.0)
    assert fn(1) == "kept"
    assert fn(odd) == "computed"


def test_the_fast_gear_thaws_copies() -> None:
    """An entry with a thaw hands each caller an object of its own."""
    advice = Geared(lambda: 0.0)

    @advise(advice)
    def fn() -> list[int]:
        return [0]

    fn()
    advice.table[()] = Hit([1], 1.0, list)
    fn().append(2)
    assert fn() == [1]


def test_the_fast_gear_is_off_while_an_advice_above_has_work() -> None:
    """A hit must not slip past what stands above the cache."""
    advice = Geared(lambda: 0.0)
    log: list[Any] = []

    @record("above", log)
    @advise(advice)
    def fn(x: int) -> str:
        return "computed"

    fn(1)
    advice.table[1] = Hit("kept", 1.0)
    fn(1)
    assert advice.counter.hits == 0
    assert len(log) == 4


async def test_the_fast_gear_serves_coroutines() -> None:
    """Awaiting a hit returns at once."""
    advice = Geared(lambda: 0.0)

    @advise(advice)
    async def fn(x: int) -> str:
        return "computed"

    await fn(1)
    advice.table[1] = Hit("kept", 1.0)
    assert await fn(1) == "kept"


def test_threads_bind_once_each_call_correct() -> None:
    """Many threads making the first call at once all get their own result."""
    log: list[Any] = []

    @record("t", log)
    def fn(x: int) -> int:
        return x * 2

    results: dict[int, int] = {}
    threads = [threading.Thread(target=lambda i=i: results.__setitem__(i, fn(i))) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: i * 2 for i in range(16)}


def test_several_event_loops_share_a_function() -> None:
    """A decorated coroutine function works in one loop after another."""

    @record("l", [])
    async def fn(x: int) -> int:
        await asyncio.sleep(0)
        return x

    assert [asyncio.run(fn(i)) for i in range(3)] == [0, 1, 2]


def test_a_forked_child_can_call() -> None:
    """A child forked after the first call calls the function and gets its own answer."""

    @record("f", [])
    def fn(x: int) -> int:
        return x + os.getpid()

    fn(1)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if fn(1) == 1 + os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_dropped_function_is_freed() -> None:
    """Decorating inside a function leaks nothing."""

    @record("x", [])
    def fn() -> None:
        return None

    fn()
    gone = weakref.ref(fn)
    del fn
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("thing", "words"),
    [(type("Shop", (), {}), "class Shop"), (property(lambda self: 1), "above @property"), (3, "cannot be called")],
)
def test_decorating_the_wrong_thing_raises_at_once(thing: Any, words: str) -> None:
    """Classes, properties and values are refused when decorating, with a remedy."""
    with pytest.raises(DecorationError, match=words) as raised:
        record("w", [])(thing)
    assert raised.value.fix
