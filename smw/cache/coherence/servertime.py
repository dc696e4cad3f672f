"""What the clock of a server shows, as far as this process knows; asks nobody and judges no value.

Processes stamp what they store, and tell how old it is, by the clock of the server that keeps the counters: it is the
only one that all of them can read, and their own may differ by hours. Between two answers the monotonic clock goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smw._kernel.clock import Clock

__all__ = ["ServerTime"]

NEVER, EVER = float("-inf"), float("inf")
_UNKNOWN = float("nan")
LASTS_S = 300.0
"""How long an answer is good for: clocks that are corrected run 0.15 s apart in it, at most."""
_AGAIN_S = 1.0
_WIDEST_S = 0.5
"""An answer that took longer does not tell precisely enough."""
_STEP_S = 1.0
_RESOLUTION_S = 0.001


class ServerTime:
    """The time of one server.

    What was learned holds until the two clocks of this process disagree: then one of them was set, or it has slept.

    Args:
        clock: This process's.
        is_told: Whether the server tells its time; of one that does not, the wall clock of this process is taken.

    Attributes:
        is_told: As given.
        at: What `now` has last returned, to those who have just had it looked at.
        is_known: Whether `now` has last returned what the server's clock shows, rather than this process's.
        due: From when on, on the monotonic clock, it should be asked before anything is judged.
        learned_at: When it last was.
    """

    def __init__(self, clock: Clock, *, is_told: bool) -> None:
        self._now, self._wall = clock.now, clock.wall
        self.is_told = is_told
        self.at = self._wall()
        self.is_known = not is_told
        self.due = NEVER if is_told else EVER
        self.learned_at = NEVER
        self._ahead = 0.0
        self._apart = _UNKNOWN

    def now(self) -> float:
        """Return seconds since the epoch."""
        now, wall = self._now(), self._wall()
        if abs(wall - now - self._apart) < _STEP_S:
            self.at = at = now + self._ahead
            return at
        if self.is_told and self.is_known:
            self.is_known, self.due, self._apart = False, NEVER, _UNKNOWN
        self.at = wall
        return wall

    def is_due(self, now: float) -> bool:
        """Tell whether the server is to be asked before anything is judged."""
        self.now()
        return self.due <= now

    def asked(self, now: float) -> None:
        """Note that it is being asked: meanwhile others go by what is known, and wait where nothing is."""
        if self.is_known:
            self.due = now + _AGAIN_S

    def untold(self, now: float) -> None:
        """Note that it did not tell, so that not everybody waits for it while it does not."""
        if not self.is_known:
            self.due = now + _AGAIN_S

    def learned(self, time_s: float, *, asked: float, told: float) -> None:
        """Take in what the server has answered.

        Args:
            time_s: Its clock.
            asked: When it was asked.
            told: When the answer was there.
        """
        if not 0.0 <= told - asked < _WIDEST_S:
            self.untold(told)
            return
        low, high = time_s - told, time_s - asked
        # What does not contradict the last answer changes nothing, so that a moment keeps its place.
        if not (self.is_known and low - _RESOLUTION_S <= self._ahead <= high + _RESOLUTION_S):
            self._ahead = (low + high) / 2
        self._apart = self._wall() - self._now()
        self.is_known, self.learned_at, self.due = True, told, told + LASTS_S

    def doubt(self) -> None:
        """Have it asked before it is next needed: another server may have taken the place of this one."""
        if self.is_told:
            self.due = NEVER
