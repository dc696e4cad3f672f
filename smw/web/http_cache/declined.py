"""What one process remembers about URIs whose answers cannot be stored; stores no response."""

from __future__ import annotations

__all__ = ["Declined"]

_MOST = 10_000
_DECLINED_S = 120.0


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
