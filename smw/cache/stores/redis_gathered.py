"""Sends what coroutines ask of Redis in one tick of their event loop, each within its own time; knows no command."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from smw._kernel.guard import EXCUSED
from smw._kernel.ticks import Ticks

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from smw.cache.stores.deadlines import Busy
    from smw.cache.stores.redis_lines import AwaitingLines

__all__ = ["Batch", "Gathered"]

_SAME_S = 0.005


class Batch:
    """Commands that travel together.

    Args:
        opened: When the first of them came, in the time of the loop.

    Attributes:
        waiters: For each who waits: for what, what `Gathered._measured` has returned, and how long.
        last_s: The longest wait.
        sent: When it was, in the time of the loop.
        busy_s: For how long the loop had been at work by then.
        ended: When its answer was there, or the first who wait had to be let go.
    """

    __slots__ = ("busy_s", "ended", "last_s", "opened", "sent", "waiters")

    def __init__(self, opened: float) -> None:
        self.opened = opened
        self.waiters: list[tuple[asyncio.Future[Any], Any, float]] = []
        self.ended = float("inf")
        self.last_s = self.sent = self.busy_s = 0.0


class Gathered(ABC):
    """The commands of one kind of one event loop.

    One that finds none on its way is sent at once. The others of its tick, and those of every later tick until it
    has returned, are collected until the tick ends. From then on each waits no longer than its own time-out: what the
    tick itself takes is not the server's, and many callers at once would leave it nothing. Nor is what it takes until
    all of them have gone on; both are told in `EXCUSED`. Each may be cancelled without harm to the others; a failure
    reaches all that travel together. When the last deadline passes the connection is cut off.

    Args:
        lines: The connections of the loop.
        busy: How long the loop was at work.
    """

    kind: type[Batch] = Batch

    def __init__(self, lines: AwaitingLines, busy: Busy) -> None:
        self._lines = lines
        self._busy = busy
        self._loop = asyncio.get_running_loop()
        self._now, self._future = self._loop.time, self._loop.create_future
        self._under_way = 0
        self._ticks: Ticks[Any] = Ticks(lambda: self.kind(self._now()), self._sent, self._is_full)

    async def run(self, timeout_s: float, *command: Any) -> Any:
        """Return the reply to a command.

        Raises:
            LagError: The event loop was too busy to take it in within `timeout_s`, or to ask at all.
            TimeoutError: It did not come within `timeout_s`.
        """
        busy = self._busy
        before_s = busy.seconds
        try:
            measured = self._measured(command) if self._under_way else None
            if measured is None:
                self._under_way += 1
                try:
                    return await self._lines.run(timeout_s, *command)
                finally:
                    self._under_way -= 1
            batch, future = self._ticks.batch(), self._future()
            self._add(batch, measured)
            batch.waiters.append((future, measured, timeout_s))
            try:
                return await future
            finally:
                busy.note(batch.ended, self._now())
        finally:
            if busy.seconds != before_s:
                EXCUSED.set(EXCUSED.get() + busy.seconds - before_s)

    @abstractmethod
    def _measured(self, command: tuple[Any, ...]) -> Any:
        """Return what a batch has to know of a command; None for one that must travel alone."""

    @abstractmethod
    def _add(self, batch: Any, measured: Any) -> None:
        """Take a command into a batch."""

    @abstractmethod
    def _is_full(self, batch: Any) -> bool:
        """Tell whether the next command has to go with another batch."""

    @abstractmethod
    async def _ask(self, batch: Any) -> Sequence[Any]:
        """Return the reply for each who waits; an exception is raised there."""

    def _sent(self, batch: Batch) -> Coroutine[Any, Any, None]:
        self._busy.note(batch.opened, self._now())
        return self._exchange(batch)

    async def _exchange(self, batch: Batch) -> None:
        batch.waiters = [waiter for waiter in batch.waiters if not waiter[0].done()]
        if not batch.waiters:
            return
        timer, batch.sent, batch.busy_s = None, self._now(), self._busy.seconds
        waits = [timeout_s for _, _, timeout_s in batch.waiters]
        first_s, batch.last_s = min(waits), max(waits)
        if batch.last_s - first_s > _SAME_S:
            timer = self._loop.call_at(batch.sent + first_s, self._release, batch)
        replies: Sequence[Any] = [ConnectionAbortedError("the event loop ended")] * len(batch.waiters)
        self._under_way += 1
        try:
            replies = await self._ask(batch)
        except Exception as error:  # noqa: BLE001 - each who waits raises it
            replies = [error] * len(batch.waiters)
        finally:
            self._under_way -= 1
            batch.ended = self._now()
            if timer is not None:
                timer.cancel()
            self._hand_out(batch, replies)

    def _hand_out(self, batch: Batch, replies: Sequence[Any]) -> None:
        for (future, _, _), reply in zip(batch.waiters, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def _release(self, batch: Batch) -> None:
        self._loop.call_soon(self._let_go, batch)  # what has arrived is taken in first

    def _let_go(self, batch: Batch) -> None:
        """Let go those whose deadline has come before the others'."""
        now = batch.ended = self._now()
        had_s = now - batch.sent - self._busy.seconds + batch.busy_s
        left = [waiter for waiter in batch.waiters if not waiter[0].done()]
        for future, _, timeout_s in left:
            if timeout_s <= had_s:
                future.set_exception(TimeoutError())
        later = [timeout_s for _, _, timeout_s in left if timeout_s > had_s]
        if later and min(later) < batch.last_s:
            self._loop.call_at(now + min(later) - had_s, self._release, batch)
