"""Ends the exchanges of one event loop whose time is up, with one timer for all of them; knows no protocol."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Any

from smw._kernel.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Busy", "Deadlines", "LagError"]

_NEVER = float("inf")


class LagError(TimeoutError):
    """The time was up, and it was the event loop that had used it rather than the server."""

    kind = "lag"


class Busy:
    """How long an event loop was at work for certain, as those have seen it who had to wait for it.

    Attributes:
        seconds: All in all.
    """

    __slots__ = ("_until", "seconds")

    def __init__(self) -> None:
        self.seconds = self._until = 0.0

    def note(self, since: float, until: float) -> None:
        """Note that it was at work from one moment to another, which others may have noted in part."""
        since = max(since, self._until)
        if until > since:
            self.seconds += until - since
            self._until = until


class Deadlines:
    """What is exchanged over the connections of an event loop, and until when each may take.

    A connection whose time is up is cut off. Before that the loop has one more turn, in which it takes in what arrived
    while it was busy elsewhere. Where the socket still holds bytes then, the server had answered in time. What the loop
    was seen to be at work meanwhile prolongs the time: an answer that many share would be lost to all of them.

    Args:
        transport: From a connection to its transport; None where it has none.

    Attributes:
        now: Returns the time of the loop.
        answered: How many exchanges have come to their end.
        busy: How long the loop was seen to be at work.
    """

    __slots__ = ("_loop", "_next", "_overrun", "_timer", "_transport", "_until", "answered", "busy", "now")

    def __init__(self, transport: Callable[[Any], Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._until: dict[Any, float] = {}  # less what `busy` showed, so that the time goes on as that does
        self._overrun: dict[Any, TimeoutError] = {}
        self._next = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self.now = self._loop.time
        self.answered = 0
        self.busy = Busy()

    async def obtain(self, until: float, get: Callable[[], Awaitable[Any]]) -> Any:
        """Return what `get` returns: a connection that nobody uses, or a new one.

        Raises:
            LagError: There was none until `until`, and it was hardly the server's fault.
            TimeoutError: There was none until `until`.
        """
        began, busy, answered = self.now(), SystemClock.busy(), self.answered
        seen_s = self.busy.seconds
        try:
            async with asyncio.timeout_at(until):
                return await get()
        except TimeoutError:
            busy_s = max(SystemClock.busy() - busy, self.busy.seconds - seen_s)
            was_busy = 4 * busy_s > self.now() - began
            if was_busy or self.answered != answered:  # the loop was at work, or the server has answered others
                raise LagError from None
            raise

    def begin(self, line: Any, until: float) -> None:
        """Cut `line` off at `until`, in the time of the loop, unless it has come to its end before."""
        self._until[line] = until - self.busy.seconds
        if until < self._next:
            self._arm(until)

    def end(self, line: Any) -> TimeoutError | None:
        """Let `line` go; returns what is to be raised where it was cut off."""
        return None if self._until.pop(line, None) is not None else self._overrun.pop(line, None)

    def _arm(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next, self._timer = until, self._loop.call_at(until, self._fire)

    def _fire(self) -> None:
        self._loop.call_soon(self._sweep)

    def _sweep(self) -> None:
        busy_s, waiting = self.busy.seconds, self._until
        now = self.now() - busy_s
        for line in [line for line, until in waiting.items() if until <= now]:
            del waiting[line]
            transport = self._transport(line)
            self._overrun[line] = LagError() if _is_readable(transport) else TimeoutError()
            if transport is not None:
                transport.abort()
        self._next, self._timer = _NEVER, None
        if waiting:
            self._arm(min(waiting.values()) + busy_s)


def _is_readable(transport: Any) -> bool:
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
