"""Keeps account of invalidations that a server has not acknowledged yet; does no I/O."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from smw._kernel.process import ForkLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Debt", "Owed"]

MOST = 10_000
_BATCH = 500


class Owed(NamedTuple):
    """What a server has to drop.

    Attributes:
        counters: Those of tags and keys.
        keys: Full keys.
        sequence: When it was owed.
    """

    counters: Sequence[str]
    keys: Sequence[str]
    sequence: int


class Debt:
    """Counters and keys that one server still has to drop.

    A scope is owed from before the server is asked until it has answered, so a lost reply, an error or a cancelled
    caller all leave it owed. Forked children owe what the parent owed: paying twice does no harm. A signal handler may
    drop something in the middle of any of these methods.

    Args:
        everything: The tag that every value carries.

    Attributes:
        books: Where it is written, which is empty while nothing is owed: to look at many debts at once.
    """

    def __init__(self, everything: str) -> None:
        self._everything = everything
        self._lock = ForkLock()
        self._numbers = itertools.count(1)
        self._sequence = 0
        self._counters: dict[str, int] = {}
        self._keys: dict[str, int] = {}
        self.books = self._counters, self._keys

    def __len__(self) -> int:
        """Return how many scopes are owed."""
        return len(self._counters) + len(self._keys)

    def add(self, counters: Sequence[str], keys: Sequence[str]) -> Owed:
        """Owe a drop of `counters` and `keys`; returns it for `settle`."""
        with self._lock:
            self._sequence = sequence = next(self._numbers)
            self._counters.update(dict.fromkeys(counters, sequence))
            self._keys.update(dict.fromkeys(keys, sequence))
            return Owed(counters, keys, sequence)

    def settle(self, paid: Owed) -> None:
        """Strike what the server acknowledged, except where it was owed again later."""
        with self._lock:
            for owed, names in ((self._counters, paid.counters), (self._keys, paid.keys)):
                for name in names:
                    if owed.get(name, paid.sequence + 1) > paid.sequence:
                        continue
                    sequence = owed.pop(name, 0)
                    if sequence > paid.sequence:  # owed again by a signal handler, in this moment
                        owed[name] = max(sequence, owed.get(name, 0))

    def bound(self) -> None:
        """Owe everything instead of more than 10,000 scopes: coarse, but bounded and correct."""
        with self._lock:
            if len(self) <= MOST:
                return
            self._counters[self._everything] = self._sequence
            for owed in (self._counters, self._keys):
                for name in list(owed):
                    if name != self._everything:
                        owed.pop(name, None)

    def covers(self, scopes: Iterable[str]) -> bool:
        """Tell whether any of `scopes` is owed, so that the server may still hold an old value."""
        if not self._counters and not self._keys:
            return False
        if self._everything in self._counters:
            return True
        return any(scope in self._counters or scope in self._keys for scope in scopes)

    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return all counters and all keys that are owed."""
        return tuple(self._counters), tuple(self._keys)

    def batch(self) -> Owed:
        """Return some of what is owed."""
        with self._lock:
            counters = dict(itertools.islice(self._counters.copy().items(), _BATCH))
            keys = dict(itertools.islice(self._keys.copy().items(), _BATCH))
            # Not the last number of all: where a signal handler owed these, that may be an earlier one.
            return Owed(list(counters), list(keys), max((*counters.values(), *keys.values()), default=0))
