"""Crossing between blocking and awaiting code, and forking."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from contextvars import ContextVar
from types import FrameType
from typing import Any

import pytest

from smw._kernel.bridge import Portal, in_thread
from smw._kernel.process import ForkLock, after_fork

WHO: ContextVar[str] = ContextVar("who", default="nobody")


async def test_blocking_code_runs_beside_the_loop_with_its_context() -> None:
    """The worker thread sees the caller's context variables and the loop goes on."""
    WHO.set("ada")
    name, who = await in_thread(lambda: (threading.current_thread().name, WHO.get()))
    assert who == "ada"
    assert name != threading.current_thread().name


def test_awaiting_code_runs_from_any_thread() -> None:
    """A portal gives back results and exceptions of coroutines."""
    portal = Portal()

    async def work(x: int) -> int:
        await asyncio.sleep(0)
        return 10 // x

    assert portal.call(work(2)) == 5
    with pytest.raises(ZeroDivisionError):
        portal.call(work(0))
    portal.close()
    portal.close()


def test_a_portal_gives_up_after_its_timeout() -> None:
    """What takes too long is cancelled and reported."""
    portal, cancelled = Portal(), threading.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        portal.call(forever(), timeout_s=0.05)
    assert cancelled.wait(2)
    portal.close()


def test_a_portal_refuses_to_wait_for_itself() -> None:
    """A call from the portal's own loop would never end, so it raises."""
    portal = Portal()

    async def nothing() -> None:
        return None

    async def nested() -> None:
        portal.call(nothing())

    with pytest.raises(RuntimeError, match="own event loop"):
        portal.call(nested())
    portal.close()


class _Counts:
    def __init__(self) -> None:
        self.forks = 0

    def forked(self) -> None:
        self.forks += 1


class _Fails:
    def forked(self) -> None:
        raise OSError


def test_callbacks_run_in_the_child_only_and_each_of_them() -> None:
    """A callback that fails keeps no other from running, and the parent is left alone."""
    fails, counts = _Fails(), _Counts()
    after_fork(fails.forked)
    after_fork(counts.forked)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if counts.forks == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert counts.forks == 0


def test_a_lock_is_free_in_a_forked_child() -> None:
    """A thread of the parent that holds a lock does not block the child for ever."""
    lock, held, release = ForkLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)
    pid = os.fork()
    if pid == 0:
        with lock, lock:
            os._exit(0)
    release.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_lock_is_never_left_taken_by_what_the_handler_of_a_signal_raises() -> None:
    """Wherever in it an exception comes, such as that of Ctrl-C, other threads get the lock afterwards."""
    lock, entered = ForkLock(), threading.Event()

    def interrupt(frame: FrameType, event: str, _arg: object) -> Any:
        if event == "return" and frame.f_globals["__name__"] == ForkLock.__module__:
            raise KeyboardInterrupt
        return interrupt

    def enter() -> None:
        with lock:
            entered.set()

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        with contextlib.suppress(KeyboardInterrupt), lock:
            pass
    finally:
        sys.settrace(before)
    threading.Thread(target=enter, daemon=True).start()
    assert entered.wait(10)


def test_a_portal_works_again_in_a_forked_child() -> None:
    """The child gets a loop and thread of its own."""
    portal = Portal()

    async def answer() -> int:
        return os.getpid()

    assert portal.call(answer()) == os.getpid()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if portal.call(answer(), timeout_s=5) == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    portal.close()


def test_a_portal_that_could_have_no_thread_tries_again(monkeypatch) -> None:
    """A limit on threads fails the call that meets it, and no later one."""
    portal = Portal()

    async def answer() -> int:
        return 42

    def refused(_thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as limit:
        limit.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="start new thread"):
            portal.call(answer())
    assert portal.call(answer(), timeout_s=5) == 42
    portal.close()
