"""What one process remembers about URIs: invalidations, and answers not worth looking up; stores no response."""

from __future__ import annotations

__all__ = ["Declined", "Fence"]

_MOST = 10_000
_DECLINED_S = 120.0


class Fence:
    """Keeps a response that was asked for before an invalidation from being stored after it."""

    def __init__(self) -> None:
        self._count = 0
        self._floor = 0
        self._dropped: dict[str, int] = {}

    def mark(self) -> int:
        """Return where we are; taken before the application runs."""
        return self._count

    def drop(self, key: str) -> None:
        """Note that `key` was invalidated."""
        self._count += 1
        if len(self._dropped) >= _MOST:
            self._dropped.clear()
            self._floor = self._count  # what was forgotten counts as dropped now: that only declines
        self._dropped[key] = self._count

    def passes(self, key: str, mark: int) -> bool:
        """Tell whether `key` was not invalidated since `mark`."""
        return self._dropped.get(key, self._floor) <= mark


class Declined:
    """URIs whose last answer could not be stored, so that looking them up again would be wasted for a while."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, key: str, now: float) -> None:
        """Note that the answer for `key` was not storable."""
        if len(self._until) >= _MOST:
            self._until.clear()
        self._until[key] = now + _DECLINED_S

    def remove(self, key: str) -> None:
        """Note that the answer for `key` was storable."""
        self._until.pop(key, None)

    def covers(self, key: str, now: float) -> bool:
        """Tell whether looking `key` up can be skipped."""
        return self._until.get(key, 0.0) > now
