"""What threads and coroutines may wait for, at the price of a future only where one of them does; decides nothing."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from smw._kernel.process import ForkLock

__all__ = ["Landing"]

_lock = ForkLock()


class Landing:
    """How something ends, told once.

    Most of what is loaded nobody else waits for, and a future is a dozen objects for Python's collector to go through.
    """

    __slots__ = ("_future", "_outcome")

    def __init__(self) -> None:
        self._future: Future[Any] | None = None
        self._outcome: tuple[Any, BaseException | None] | None = None

    def done(self) -> bool:
        """Tell whether it has ended."""
        return self._outcome is not None

    def tell(self, result: Any = None, error: BaseException | None = None) -> None:
        """Tell those who wait how it has ended; what is told first stays."""
        with _lock:
            if self._outcome is not None:
                return
            self._outcome = result, error
            future = self._future
        if future is not None:
            _settle(future, result, error)

    def future(self) -> Future[Any]:
        """Return what to wait by; it refuses to be cancelled, so that nobody who waits can do so for the others."""
        with _lock:
            if self._future is None:
                self._future = Future()
                self._future.set_running_or_notify_cancel()
                if self._outcome is not None:
                    _settle(self._future, *self._outcome)
            return self._future


def _settle(future: Future[Any], result: Any, error: BaseException | None) -> None:
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
