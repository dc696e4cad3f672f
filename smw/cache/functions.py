"""The functions of one cache for as long as they live, and what those that are gone have counted; knows no level."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from smw._kernel.process import ForkLock
from smw.cache.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smw._kernel.call import Target
    from smw.cache.advice import Cached
    from smw.cache.function import CachedFunction
    from smw.cache.part import Cache

__all__ = ["Functions", "known_as"]

_KNOWN = "smw_cached"


def known_as(target: Target, advice: Cached) -> WeakKeyDictionary[Cache, CachedFunction]:
    """Return cache → the function that `advice` decorates as that cache knows it.

    The function itself keeps it, so that one made inside another function, such as for one request, ends with it.
    """
    by_advice: WeakKeyDictionary[Cached, WeakKeyDictionary[Cache, CachedFunction]] | None = vars(target).get(_KNOWN)
    if by_advice is None:
        by_advice = vars(target).setdefault(_KNOWN, WeakKeyDictionary())
    known = by_advice.get(advice)
    return by_advice.setdefault(advice, WeakKeyDictionary()) if known is None else known


class Functions:
    """What a cache remembers of its functions without keeping them."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._living: weakref.WeakSet[CachedFunction] = weakref.WeakSet()
        self._gone: deque[tuple[str, Stats]] = deque()
        self._past: dict[str, Stats] = {}

    def add(self, function: CachedFunction) -> None:
        """Remember a function until it is gone."""
        with self._lock:
            self._living.add(function)
            self._fold()
        # The collector may run anywhere, also within these locks: what is gone is only noted.
        ended = weakref.finalize(function, self._gone.append, (function.target.name, function.stats))
        ended.atexit = False

    def living(self) -> list[CachedFunction]:
        """Return those that are not gone."""
        with self._lock:
            return list(self._living)

    def counts(self) -> Iterator[tuple[str, Stats]]:
        """Yield name and counts of each; those that are gone together, by name, so that no count ever falls."""
        with self._lock:
            living = list(self._living)  # held, so that none of them is folded as well
            self._fold()
            found = [*self._past.items(), *((function.target.name, function.stats) for function in living)]
        yield from found

    def _fold(self) -> None:
        while self._gone:
            name, stats = self._gone.popleft()
            self._past.setdefault(name, Stats()).add(stats)
