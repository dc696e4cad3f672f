"""Crosses between blocking and awaiting code where a client exists in one mode alone; knows no client."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from smw._kernel.process import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Portal", "in_thread", "on_asyncio"]

P = ParamSpec("P")
T = TypeVar("T")


def on_asyncio() -> bool:
    """Tell whether the running event loop is asyncio's: not in blocking code, and not in that of another one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def in_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in a worker thread of the loop, with the caller's context variables.

    A cancelled caller stops waiting; the function itself runs to its end.
    """
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, lambda: context.run(fn, *args, **kwargs))


class Portal:
    """An event loop in a daemon thread, for awaiting clients that blocking code must use.

    It starts with the first call, restarts in a forked child, and ends with `close`.
    """

    def __init__(self, name: str = "smw-portal") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        after_fork(self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self._loop = self._thread = None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=loop.run_forever, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads may be had: the next call tries again
                    loop.close()
                    raise
                self._loop, self._thread = loop, thread
            return self._loop

    def call(self, coroutine: Coroutine[Any, Any, T], *, timeout_s: float | None = None) -> T:
        """Run `coroutine` in the portal's loop and wait for its result.

        Args:
            coroutine: What to await there.
            timeout_s: Give up, and cancel it, after so many seconds; None waits.

        Raises:
            TimeoutError: It took longer than `timeout_s`.
            RuntimeError: Called from the portal's own loop, which would wait for itself; or no thread can be had.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            message = "a portal was called from its own event loop"
            raise RuntimeError(message)
        try:
            loop = self._running()
        except RuntimeError:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise

    def close(self, *, timeout_s: float = 2.0) -> None:
        """Stop the loop and its thread; idempotent."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout_s)
        if not thread.is_alive():
            loop.close()
