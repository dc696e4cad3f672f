"""Remembers what this process or another has invalidated, so that no load that began before is kept; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smw._kernel.clock import Clock

__all__ = ["Fence"]

MOST_SCOPES = 10_000
NEVER = float("-inf")


class Fence:
    """Epochs of scopes (tags and keys): each invalidation starts a new one.

    Changes are made holding the lock of the memory level; reading takes none.

    Args:
        clock: Where time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.epoch = 0
        self._raised: dict[str, tuple[int, float]] = {}
        self._floor = 0
        self._floor_at = NEVER

    def lift(self, scopes: Iterable[str]) -> None:
        """Begin a new epoch of `scopes`, which are tags and keys."""
        self.epoch += 1
        now, raised = self._clock.now(), self._raised
        for scope in scopes:
            raised[scope] = self.epoch, now
        if len(raised) > MOST_SCOPES:
            self.lift_all()
            self._raised = {}  # last: whoever looks without the lock must find either

    def lift_all(self) -> None:
        """Begin a new epoch of every scope: others may have dropped anything."""
        self.epoch += 1
        self._floor, self._floor_at = self.epoch, self._clock.now()

    def stamp(self, scopes: Iterable[str]) -> int:
        """Return the newest epoch of any of `scopes`."""
        raised = self._raised
        if not raised:
            return self._floor
        return max(self._floor, *[raised[scope][0] for scope in scopes if scope in raised], 0)

    def stands(self, scopes: Iterable[str], epoch: int) -> bool:
        """Tell whether none of `scopes` was invalidated after `epoch`."""
        return self.stamp(scopes) <= epoch

    def lifted_within(self, scopes: Iterable[str], seconds: float) -> bool:
        """Tell whether any of `scopes` was invalidated in the last `seconds`, here or elsewhere as far as heard."""
        since = self._clock.now() - seconds
        raised = self._raised
        return self._floor_at > since or any(raised[scope][1] > since for scope in scopes if scope in raised)

    def lifted_at(self, scopes: Iterable[str]) -> float | None:
        """Return when any of `scopes` was last invalidated, here or elsewhere as far as heard; None if not of late."""
        raised = self._raised
        last = max(self._floor_at, *[raised[scope][1] for scope in scopes if scope in raised], NEVER)
        return None if last == NEVER else last
