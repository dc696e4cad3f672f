"""Threads for blocking handlers that take work until the very end of the process; knows no handler."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LastingThreads"]

P = ParamSpec("P")
T = TypeVar("T")
_Work = tuple["Future[Any]", "Callable[[], Any]"]


class LastingThreads(ThreadPoolExecutor):
    """An executor for an event loop.

    Python's own takes no work any more, and starts no threads, once the interpreter has begun to exit; that is just
    when what waits in memory is to be handled. These threads are there from the start. It is a `ThreadPoolExecutor`
    because event loops accept nothing else as their default.

    Args:
        count: How many threads.
    """

    def __init__(self, count: int) -> None:
        super().__init__(1)
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        self._count = count
        for number in range(count):
            threading.Thread(target=self._serve, name=f"smw-handler-{number}", daemon=True).start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `fn` called by the next thread that is free."""
        future: Future[T] = Future()
        self._waiting.put((future, lambda: fn(*args, **kwargs)))
        return future

    def _serve(self) -> None:
        while (work := self._waiting.get()) is not None:
            future, call = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it belongs to who waits for the result
                future.set_exception(error)
            del work, future, call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as the base
        """End each thread after what it is doing."""
        for _ in range(self._count):
            self._waiting.put(None)
        super().shutdown(wait, cancel_futures=cancel_futures)
