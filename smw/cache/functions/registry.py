"""The functions of one cache for as long as they live, and what those that are gone have counted; knows no level."""

from __future__ import annotations

import inspect
import logging
import types
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from smw._kernel.process import ForkLock
from smw.cache.sight.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smw._kernel.call import Target
    from smw.cache.functions.advice import Cached
    from smw.cache.functions.function import CachedFunction
    from smw.cache.part import Cache

__all__ = ["Functions", "known_as"]

_log = logging.getLogger("smw.cache")
_KNOWN = "smw_cached"
_SAME_NAME = (
    "[%s] two functions are called %s, and servers hold the results of both under the same keys: each may be handed "
    "those of the other; give each a name of its own, or another version="
)


def known_as(target: Target, advice: Cached) -> WeakKeyDictionary[Cache, CachedFunction]:
    """Return cache → the function that `advice` decorates as that cache knows it.

    The function itself keeps it, so that one made inside another function, such as for one request, ends with it.
    """
    by_advice: WeakKeyDictionary[Cached, WeakKeyDictionary[Cache, CachedFunction]]
    by_advice = vars(target).get(_KNOWN) or vars(target).setdefault(_KNOWN, WeakKeyDictionary())
    known = by_advice.get(advice)
    return by_advice.setdefault(advice, WeakKeyDictionary()) if known is None else known


def _told(code: types.CodeType) -> tuple[Any, ...]:
    """Return what tells the code of one function from that of another, wherever they stand."""
    inner = tuple(_told(each) if isinstance(each, types.CodeType) else (type(each), each) for each in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, inner


class Functions:
    """What a cache remembers of its functions without keeping them."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._living: weakref.WeakSet[CachedFunction] = weakref.WeakSet()
        self._gone: deque[tuple[str, Stats]] = deque()
        self._past: dict[str, Stats] = {}
        self._codes: dict[str, int | None] = {}

    def add(self, function: CachedFunction) -> None:
        """Remember a function until it is gone."""
        with self._lock:
            self._living.add(function)
            self._fold()
            self._compare(function)
        # The collector may run anywhere, also within these locks: what is gone is only noted.
        ended = weakref.finalize(function, self._gone.append, (function.target.name, function.stats))
        ended.atexit = False

    def _compare(self, function: CachedFunction) -> None:
        """Say so where another function of this process has had the name that alone stands for this one on servers."""
        code = getattr(inspect.unwrap(function.target.fn), "__code__", None)
        if code is None or not (function.policy.names and function.placing.is_told_by_name):
            return
        mark, told = function.placing.mark, hash(_told(code))
        if self._codes.setdefault(mark, told) not in (told, None):
            self._codes[mark] = None
            _log.warning(_SAME_NAME, "SMW-C175", function.target.name)

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
