"""Keeps account of invalidations that a server has not acknowledged yet; does no I/O."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from smw._kernel.process import after_fork

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Debt"]

MOST = 10_000
_BATCH = 500


class Debt:
    """Tags and keys that one server still has to drop.

    A scope is owed from before the server is asked until it has answered, so a lost reply, an error or a cancelled
    caller all leave it owed. Beyond 10,000 everything is owed instead: coarse, but bounded and correct.

    Args:
        everything: The tag that every value carries.
    """

    def __init__(self, everything: str) -> None:
        self._everything = everything
        self._lock = threading.Lock()
        self._sequence = 0
        self._tags: dict[str, int] = {}
        self._keys: dict[str, int] = {}
        after_fork(self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()  # the child owes what the parent owed: paying twice does no harm

    def __len__(self) -> int:
        """Return how many scopes are owed."""
        return len(self._tags) + len(self._keys)

    def add(self, tags: Sequence[str], keys: Sequence[str]) -> int:
        """Owe `tags` and `keys`; returns a number for `settle`."""
        with self._lock:
            self._sequence += 1
            self._tags.update(dict.fromkeys(tags, self._sequence))
            self._keys.update(dict.fromkeys(keys, self._sequence))
            if len(self) > MOST:
                self._tags, self._keys = {self._everything: self._sequence}, {}
            return self._sequence

    def settle(self, tags: Iterable[str], keys: Iterable[str], sequence: int) -> None:
        """Strike what the server acknowledged, except where it was owed again after `sequence`."""
        with self._lock:
            for owed, names in ((self._tags, tags), (self._keys, keys)):
                for name in names:
                    if owed.get(name, sequence + 1) <= sequence:
                        del owed[name]

    def covers(self, scopes: Iterable[str]) -> bool:
        """Tell whether any of `scopes` is owed, so that the server may still hold an old value."""
        if not self._tags and not self._keys:
            return False
        if self._everything in self._tags:
            return True
        return any(scope in self._tags or scope in self._keys for scope in scopes)

    def batch(self) -> tuple[list[str], list[str], int]:
        """Return some of the tags and keys that are owed, and the number for `settle`."""
        with self._lock:
            return list(self._tags)[:_BATCH], list(self._keys)[:_BATCH], self._sequence
