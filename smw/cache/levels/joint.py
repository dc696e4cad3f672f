"""Has who comes while a question is asked wait for that answer, not for a tick to end; knows not what it is about."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from smw._kernel.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from smw._kernel.clock import Clock
    from smw._kernel.guard import Budget

    Ask = Callable[[], Coroutine[Any, Any, None]]

__all__ = ["Joint"]

_LEAST_S = 0.001


class _Question:
    """What is asked for all: in a task of its own, so that whoever leaves takes it from nobody."""

    __slots__ = ("sent", "task", "told")

    def __init__(self, loop: asyncio.AbstractEventLoop, ask: Ask) -> None:
        self.sent: float | None = None
        self.told: float | None = None
        self.task = loop.create_task(self._ask(loop, ask))

    async def _ask(self, loop: asyncio.AbstractEventLoop, ask: Ask) -> None:
        self.sent = loop.time()
        await ask()
        self.told = loop.time()

    def kept_s(self, came: float, now: float) -> float:
        """Return how long it has kept somebody who came at a moment: not while it was not sent yet."""
        return 0.0 if self.sent is None else (self.told or now) - max(came, self.sent)


class Joint:
    """A question that one coroutine of an event loop asks for all that want it answered meanwhile.

    They go on in one tick, so that what they ask next can be asked together as well. Each waits no longer than its own
    budget, counted from when the question was sent: the tick in which a thousand come to wait is not the server's.

    Args:
        clock: By which budgets go.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked: PerLoop[list[_Question]] = PerLoop(list)  # the last one, where there was any

    async def wait(self, ask: Ask, budget: Budget) -> bool:
        """Wait until `ask` has returned, or what was asked before; returns whether that was within the budget.

        Args:
            ask: Asks and takes in the answer; sees to its own time-out and never fails.
            budget: What the caller may still spend.
        """
        loop = asyncio.get_running_loop()
        came, had_s = loop.time(), budget.left_s()
        if had_s < _LEAST_S:
            return False
        question, left_s = self._joined(loop, ask), had_s
        while left_s > 0 and not question.task.done():
            await asyncio.wait([question.task], timeout=left_s)
            left_s = had_s - question.kept_s(came, loop.time())
        now = self._clock.now()
        budget.begin(now)
        budget.end(now + question.kept_s(came, loop.time()))
        return question.task.done()

    def _joined(self, loop: asyncio.AbstractEventLoop, ask: Ask) -> _Question:
        asked = self._asked.get()
        if not asked or asked[0].task.done():
            asked[:] = [_Question(loop, ask)]
        return asked[0]
