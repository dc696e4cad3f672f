"""Decides from the numbered messages of a server until when memory is current; does no I/O and knows no value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw._kernel.process import ForkLock, after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smw.cache.ports import Pulse

__all__ = ["Backplane"]

NEVER = float("-inf")


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
        self.messages = self.gaps = 0
        self.wanted_at = NEVER
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self.standing = (float("inf"), NEVER)
        self._heard: int | None = None
        self._reign = ""
        self._awaited: tuple[float, int] | None = None

    def attended(self, summon: Callable[[], None]) -> None:
        """Have `summon` called whenever somebody wants to know."""
        self._summon = summon

    def want(self, now: float) -> None:
        """Say that memory is in use, so that it is kept current for a while."""
        self.wanted_at = now
        if self._summon is not None:
            self._summon()

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

    def _miss(self, now: float) -> None:
        self.gaps += 1
        self._awaited = None
        self.standing = now, NEVER
        self._drop_all()
