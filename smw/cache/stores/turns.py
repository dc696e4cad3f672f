"""Lets blocking callers wait for one of a few connections that others use; knows no server."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from smw._kernel.clock import SystemClock
from smw.cache.stores.deadlines import LagError

if TYPE_CHECKING:
    from collections import deque

__all__ = ["Turns", "waited_s"]

_last = threading.local()


def waited_s() -> float:
    """Return how long this thread has last waited for a connection, once; 0.0 where it has not."""
    seconds: float = getattr(_last, "seconds", 0.0)
    _last.seconds = 0.0
    return seconds


class Turns:
    """Who waits for a connection.

    Attributes:
        idle: As given.
        waiters: How many wait.

    Args:
        idle: The connections that nobody uses; who needs one takes it out, and waits only where it is empty.
        wait_s: How long a caller waits.
    """

    def __init__(self, idle: deque[Any], *, wait_s: float) -> None:
        self.waiters = 0
        self.idle = idle
        self._wait_s = wait_s
        self._given_back = threading.Condition()

    def take(self) -> Any:
        """Return a connection that another caller gives back, or room for one.

        Raises:
            LagError: None was given back in time, which says nothing of the server.
        """
        began = SystemClock.now()
        until = began + self._wait_s
        with self._given_back:
            self.waiters += 1
            try:
                while True:
                    with contextlib.suppress(IndexError):  # somebody who has just come was quicker
                        return self.idle.pop()
                    if not self._given_back.wait(until - SystemClock.now()):
                        raise LagError("all connections are in use")
            finally:
                self.waiters -= 1
                _last.seconds = SystemClock.now() - began

    def given_back(self) -> None:
        """Wake one who waits; said by whoever sees `waiters` after having put a connection back."""
        with self._given_back:
            self._given_back.notify()
