"""Adds up the figures of several workers; knows neither their files nor who is alive."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from smw.monitor.cells import Labels, Reading
from smw.monitor.instruments import ACROSS, OVERFLOW, Instrument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["ABSENT", "Rows", "Totals"]

ABSENT = math.nan
"""Value of a gauge that its worker no longer has."""
Rows = tuple[Instrument, "Iterable[tuple[Labels, Sequence[float]]]"]
_JOINS: dict[str, Callable[[Any, Any], Any]] = {"max": max, "min": min}


class Totals:
    """Sums by instrument and labels.

    Two shapes of one metric (its buckets have changed between two versions of a service) stay apart; shown is the one
    that was added first.

    Args:
        most: Series kept per metric; counts of further ones go to one series whose labels are ``overflow``.
    """

    def __init__(self, *, most: float = math.inf) -> None:
        self._most = most
        self._tables: dict[tuple[Any, ...], tuple[Instrument, dict[Labels, list[float]]]] = {}

    def add(self, rows: Rows) -> None:
        """Add the series of one instrument of one worker."""
        instrument, series = rows
        key = (instrument.name, instrument.kind, instrument.buckets)
        _, table = self._tables.setdefault(key, (instrument, {}))
        join = _JOINS.get(ACROSS.get(instrument.name, ""), operator.add)
        is_gauge = instrument.kind == "gauge"
        for given, cells in series:
            if is_gauge and math.isnan(cells[0]):
                continue
            labels = given
            if len(table) >= self._most and labels not in table:
                labels = tuple((name, OVERFLOW) for name, _ in given)
            known = table.get(labels)
            table[labels] = list(cells) if known is None else list(map(join, known, cells))

    def __iter__(self) -> Iterator[tuple[Instrument, list[tuple[Labels, list[float]]]]]:
        """Yield what was added up, in the order of first appearance."""
        for instrument, table in self._tables.values():
            yield instrument, list(table.items())

    def readings(self) -> Iterator[Reading]:
        """Yield one reading per metric."""
        shown: set[str] = set()
        for instrument, rows in self:
            if instrument.name not in shown:
                shown.add(instrument.name)
                yield Reading(instrument, rows)
