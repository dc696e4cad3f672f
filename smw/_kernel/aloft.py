"""One load under way: who leads it and who waits, how it ends, and whether it ever will; knows no key and no loader."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from smw._kernel.clock import SystemClock
from smw._kernel.landing import Landing
from smw._kernel.process import ForkLock
from smw._kernel.raising import own

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    import weakref
    from types import TracebackType

    from smw._kernel.call import Mode

__all__ = ["RELIEF_S", "WAITS", "Flight", "would_deadlock"]

RELIEF_S = 60.0
"""How long callers wait for a load before one of them loads too, and how long it takes until the next one does."""
WAITS = ForkLock()
"""Held while it is looked at, or changed, who waits for whom."""
_now = SystemClock.now


class Flight:
    """One load.

    Args:
        mode: In which it runs.

    Attributes:
        landing: How it ends.
        leads: What runs it, or has its task run it; None while there is nothing of the kind yet.
        name: How others know what it loads; empty where they do not.
        relief_at: When one of those who wait is to load too.
        task: What runs it in an event loop.
        thread: The thread that runs it in mode ``sync``.
        traceback: That of the error with which it has ended.
        waiters: How many callers want its outcome, who leads it among them.
        waits_on: The flights that it waits for itself.
    """

    __slots__ = ("landing", "leads", "name", "relief_at", "task", "thread", "traceback", "waiters", "waits_on")

    def __init__(self, mode: Mode) -> None:
        self.landing = Landing()
        self.name = ""
        self.relief_at = _now() + RELIEF_S
        self.leads: weakref.ref[Any] | None = None
        self.task: asyncio.Task[Any] | None = None
        self.thread = threading.get_ident() if mode == "sync" else None
        self.traceback: TracebackType | None = None
        self.waiters = 1
        self.waits_on: set[Flight] = set()

    def is_stranded(self) -> bool:
        """Tell whether nobody will ever land it.

        That is so where its event loop no longer runs, and where what leads it has ended without a word: the handler of
        a signal may raise something at any moment, be it before the load begins or where its error is seen to.
        """
        if self.task is not None:
            is_left = not self.task.get_loop().is_running()
        else:
            leads = None if self.leads is None else self.leads()
            is_left = leads is None or leads.cr_frame is None
        return is_left and not self.landing.done()  # asked last: who leads it lands it first

    def is_over(self) -> bool:
        """Tell whether it has landed, or never will."""
        return self.landing.done() or self.is_stranded()

    def is_overdue(self) -> bool:
        """Tell one of those who wait, each time that a while has passed, to load too."""
        with WAITS:
            due = _now() >= self.relief_at
            if due:
                self.relief_at = _now() + RELIEF_S
        return due

    def land(self, result: Any = None, error: BaseException | None = None) -> None:
        """Tell those who wait how it has ended, unless somebody who loaded too was faster."""
        if error is not None:
            self.traceback = error.__traceback__
            error = own(error) if self.waiters > 1 else error  # whoever leads goes on with it, and may add to it
        self.landing.tell(result, error)

    def outcome(self, landed: concurrent.futures.Future[Any] | asyncio.Future[Any]) -> Any:
        """Return what a wait has shown, or raise it as an error of the waiter's own, with the frames of the load."""
        error = landed.exception()
        if error is None:
            return landed.result()
        raise own(error).with_traceback(self.traceback)


def would_deadlock(flight: Flight, stack: tuple[Flight, ...]) -> bool:
    """Tell whether `flight` waits, through any chain of others, for a flight led from here."""
    seen: set[Flight] = set()
    todo = [flight]
    while todo:
        other = todo.pop()
        if other in stack:
            return True
        if other not in seen:
            seen.add(other)
            todo.extend(other.waits_on)
    return False
