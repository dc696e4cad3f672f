"""Decides from the numbered messages of a server until when memory is current; does no I/O and knows no value."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, NamedTuple

from smw._kernel.process import ForkLock, after_fork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.guard import Budget
    from smw.cache.levels.level import Level
    from smw.cache.ports import Pulse

__all__ = ["Backplane", "Moment"]

NEVER = float("-inf")
_HEARD_WITHIN_S = 0.05


class Moment(NamedTuple):
    """A moment after which drops are to be known.

    Attributes:
        at: When it was.
        pulse: What the server said of its messages then; None where they are heard, or it did not answer.
    """

    at: float
    pulse: Pulse | None


class Backplane:
    """What this process has heard of the drops of others.

    The server numbers the messages, so that a lost one is noticed whoever sent it, and however it was lost. A pulse
    asks for the newest number: once everything up to it has been heard, memory is as current as the server was when it
    was asked, and nothing needs to be asked for entry by entry.

    An entry takes part if it was confirmed by the server after the present session has begun. A session ends where
    something was missed, for then all of memory is dropped, and another one begins.

    Args:
        drop: Drops scopes that another process has dropped; dooms the fills in flight.
        drop_all: Drops everything, as anything may have been missed.

    Attributes:
        standing: When the session began, and when memory was last known to be current.
        messages: Messages of other processes.
        gaps: How often something was missed.
        wanted_at: When somebody last asked.
    """

    def __init__(self, drop: Callable[[Sequence[str]], None], drop_all: Callable[[], None]) -> None:
        self._drop = drop
        self._drop_all = drop_all
        self._lock = ForkLock()
        self._summon: Callable[[], None] | None = None
        self._ask: Callable[..., Awaitable[Pulse | None]] | None = None
        self.messages = self.gaps = 0
        self.wanted_at = NEVER
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self.standing = (float("inf"), NEVER)
        self._heard: int | None = None
        self._reign = ""
        self._awaited: tuple[float, int] | None = None
        self._waiting: list[tuple[int, concurrent.futures.Future[None]]] = []

    def attended(self, summon: Callable[[], None], ask: Callable[..., Awaitable[Pulse | None]]) -> None:
        """Have `summon` called whenever somebody wants to know, and `ask` where a pulse is needed at once."""
        self._summon, self._ask = summon, ask

    def want(self, now: float) -> None:
        """Say that memory is in use, so that it is kept current for a while."""
        self.wanted_at = now
        if self._summon is not None:
            self._summon()

    def of(self, _key: str) -> Backplane:
        """Return itself: one server has all keys."""
        return self

    def of_server(self, _level: Level) -> Backplane:
        """Return itself: there is one server."""
        return self

    def current(self, asked: float) -> float:
        """Return when memory was last known to be current as far as an entry goes that was confirmed at `asked`."""
        since, current = self.standing
        return current if asked >= since else NEVER

    def heard(self, number: int, scopes: Sequence[str], *, now: float) -> None:
        """Take in one message.

        Args:
            number: The server's.
            scopes: What was dropped; none where it was this process itself.
            now: The present moment.
        """
        with self._lock:
            if scopes:
                self.messages += 1
                self._drop(scopes)
            before = self._heard
            if before is None or number <= before:
                return  # of before the session, or once more
            if number > before + 1:
                self._miss(now)
            self._heard = number
            if self._awaited is not None and number >= self._awaited[1]:
                self.standing = self.standing[0], self._awaited[0]
                self._awaited = None
            self._release()

    def pulsed(self, pulse: Pulse, *, asked: float, told: float) -> bool:
        """Take in a pulse; returns False where messages do not come through although the server has sent them.

        Args:
            pulse: The server's answer.
            asked: When it was asked.
            told: When the answer was there.
        """
        with self._lock:
            if not pulse.is_master:
                return True
            if self._heard is None:
                self._begin(pulse, asked, told)
            elif pulse.reign != self._reign or pulse.number < self._heard:
                self._miss(told)
                self._begin(pulse, asked, told)
            elif pulse.number == self._heard:
                self._awaited = None
                self.standing = self.standing[0], asked
            elif self._awaited is None:
                self._awaited = asked, pulse.number
            else:  # not even what had been sent before the last pulse has come
                self._miss(told)
                self._begin(pulse, asked, told)
                return False
            return True

    def _begin(self, pulse: Pulse, asked: float, told: float) -> None:
        """Begin a session: what is asked from now on knows of all up to the pulse, and the rest will be heard."""
        self._heard, self._reign, self._awaited = pulse.number, pulse.reign, None
        self.standing = told, asked
        self._release()

    def _miss(self, now: float) -> None:
        self.gaps += 1
        self._awaited = None
        self.standing = now, NEVER
        self._drop_all()

    async def has_heard_all(self, since: float, *, budget: Budget, mode: Mode) -> bool:
        """Tell whether every drop until now was heard, waiting a moment for those that are on their way.

        It is True as well where nobody has listened since `since`: then nothing can be said.

        Args:
            since: From when on it matters.
            budget: What may be spent on asking.
            mode: The caller's mode.
        """
        if self._ask is None or self.current(since) == NEVER:
            return True
        pulse = await self._ask(budget=budget, mode=mode)
        if pulse is None:
            return True
        if self._heard is None:
            return True
        return await self._heard_up_to(pulse.number, _HEARD_WITHIN_S, mode)

    async def moment(self, now: float, *, budget: Budget, mode: Mode) -> Moment:
        """Return the present moment, for `knows_all_since`; it is asked for only where nothing is heard yet."""
        is_heard = self._ask is None or self.current(now) != NEVER
        return Moment(now, None if is_heard or self._ask is None else await self._ask(budget=budget, mode=mode))

    async def knows_all_since(self, moment: Moment, *, budget: Budget, mode: Mode) -> bool:
        """Tell whether each drop since a moment has been heard, or there was none: what nobody can tell is False.

        Args:
            moment: What `moment` has returned.
            budget: What may be spent on asking.
            mode: The caller's mode.
        """
        pulse = None if self._ask is None else await self._ask(budget=budget, mode=mode)
        if pulse is None or not pulse.is_master:
            return False
        if moment.pulse is not None:
            return pulse == moment.pulse
        if self._reign != pulse.reign or not await self._heard_up_to(pulse.number, _HEARD_WITHIN_S, mode):
            return False
        return self.current(moment.at) != NEVER

    async def joined(self, timeout_s: float, mode: Mode) -> bool:
        """Tell whether a session has begun, waiting so long for it where somebody listens.

        What is asked from then on needs no question of its own for as long as the session lasts.
        """
        return self._summon is not None and await self._heard_up_to(0, timeout_s, mode)

    async def _heard_up_to(self, number: int, timeout_s: float, mode: Mode) -> bool:
        with self._lock:
            if self._heard is not None and self._heard >= number:
                return True
            future: concurrent.futures.Future[None] = concurrent.futures.Future()
            waiting = number, future
            self._waiting.append(waiting)
        try:
            if mode == "sync":
                concurrent.futures.wait([future], timeout_s)
            else:
                await asyncio.wait([asyncio.wrap_future(future)], timeout=timeout_s)
            return future.done()
        finally:
            with self._lock:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)

    def _release(self) -> None:
        """Let go those who wait for what has now been heard."""
        for number, future in self._waiting:
            if number <= (self._heard or 0) and not future.done():
                future.set_result(None)
