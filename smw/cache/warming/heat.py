"""Finds out what a process asks its memory for most, from the marks that hits leave anyway; knows no server.

A hit sets the `touched` mark of its entry, for eviction to read. Here those marks are counted once a second and turned
into 2, which eviction takes for the same: so a key counts by the seconds in which it was asked for, and a hit does
nothing more than it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from smw.cache.warming.hot import member_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smw.cache.functions.placing import Placing
    from smw.cache.levels.memory import Entry

__all__ = ["COUNTED", "Heat"]

COUNTED = 2
"""What `touched` is from counting a hit until the next one."""
_MOST_LOOKED_AT = 5_000


class Heat:
    """What one process asks for.

    Args:
        most: How many keys are told; somewhat more are counted.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: WeakValueDictionary[str, Placing] = WeakValueDictionary()
        self._counts: dict[str, list[Any]] = {}
        self._round = 0

    def watch(self, placing: Placing) -> None:
        """Count the results of one function."""
        self._places[placing.mark] = placing

    def forget(self) -> None:
        """Begin anew, in a forked child."""
        self._counts = {}

    def sample(self) -> None:
        """Count what was asked for since the last time; of a large memory some at a time."""
        self._round += 1
        places = tuple(self._places.values())
        step = 1 + sum(len(placing.table) + len(placing.texts) for placing in places) // _MOST_LOOKED_AT
        for placing in places:
            for table in (placing.table, placing.texts):
                self._count(placing.mark, list(table.values())[self._round % step :: step])
        if len(self._counts) > 4 * self._most:
            self._counts = dict(self._hottest(2 * self._most))

    def _count(self, mark: str, entries: Iterable[Entry]) -> None:
        counts = self._counts
        for entry in entries:
            if entry.touched != 1:
                continue
            entry.touched = COUNTED
            scopes, ticket = entry.scopes, entry.ticket  # in this order: one that has gone loses the first one first
            if ticket is None or not ticket.is_whole or not scopes:
                continue  # servers do not know it
            counted = counts.get(scopes[0])
            if counted is None:
                counts[scopes[0]] = [1, mark, scopes[1 : 1 + len(ticket.generations)]]
            else:
                counted[0] += 1

    def _hottest(self, most: int) -> list[tuple[str, list[Any]]]:
        return sorted(self._counts.items(), key=lambda pair: -pair[1][0])[:most]

    def taken(self) -> list[tuple[str, str, int]]:
        """Return the keys that were asked for most, how they are written down and how often, and begin anew."""
        found, self._counts = self._hottest(self._most), {}
        return [(text, member_of(mark, text, tags), count) for text, (count, mark, tags) in found]
