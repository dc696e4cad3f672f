"""Figures that other parts keep and give away when asked: added up, and put where other workers see them."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from smw.monitor.cells import Labels, Losses, Reading, Series, clean
from smw.monitor.instruments import DECLARED, Instrument
from smw.monitor.totals import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smw._kernel.facts import Facts
    from smw.monitor.memory import Memory
    from smw.monitor.totals import Rows

__all__ = ["Pulled"]

_BY_NAME = {instrument.name: instrument for instrument in DECLARED}


class Pulled:
    """The facts of one host.

    Args:
        facts: Where they come from.
        memory: Where `publish` puts them.
        losses: Where what cannot be kept is reported.
    """

    def __init__(self, facts: Facts, memory: Memory, losses: Losses) -> None:
        self._facts = facts
        self._memory = memory
        self._losses = losses
        self._lock = threading.RLock()
        self._series: dict[str, Series] = {}
        self._seen: dict[tuple[str, Labels], list[float]] = {}

    def read(self) -> Iterator[Reading]:
        """Yield the figures as they stand now; those of one name and one set of labels are added up."""
        instruments: dict[str, Instrument] = {}
        rows: dict[str, dict[Labels, list[float]]] = {}
        for fact in self._facts:
            known = _BY_NAME.get(fact.name) or Instrument(fact.name, fact.kind, fact.help, buckets=fact.bounds)
            instruments.setdefault(fact.name, known)
            labels = tuple((name, clean(value)) for name, value in fact.labels)
            figures = fact.cells or (fact.value,)
            row = rows.setdefault(fact.name, {}).setdefault(labels, [0.0] * len(figures))
            for place, figure in enumerate(figures):
                row[place] += figure
        for name, found in rows.items():
            yield Reading(instruments[name], list(found.items()))

    def publish(self) -> None:
        """Put the figures as they stand now where other workers see them."""
        with self._lock:
            present: set[tuple[str, Labels]] = set()
            for reading in self.read():
                name, is_gauge = reading.instrument.name, reading.instrument.kind == "gauge"
                series = self._series_of(reading.instrument)
                for labels, figures in reading.rows:
                    present.add((name, labels))
                    if is_gauge:
                        series.put(labels, figures[0])
                    else:
                        series.grow(labels, self._growth((name, labels), figures))
            for name, series in self._series.items():
                if series.instrument.kind == "gauge":
                    for labels, _ in series.read().rows:
                        if (name, labels) not in present:
                            series.put(labels, ABSENT)

    def _series_of(self, instrument: Instrument) -> Series:
        series = self._series.get(instrument.name)
        if series is None:
            # No limit: what a source shows is bounded already, and an overflow could not be told from a fall.
            series = Series(instrument, limit=sys.maxsize, losses=self._losses, memory=self._memory)
            self._series[instrument.name] = series
        return series

    def _growth(self, key: tuple[str, Labels], figures: list[float]) -> list[float]:
        """Return by how much figures have grown; those of which one has fallen have started again from 0."""
        before = self._seen.get(key) or [0.0] * len(figures)
        self._seen[key] = figures
        grown = [figure - known for figure, known in zip(figures, before, strict=True)]
        return figures if min(grown) < 0 else grown

    def rows(self) -> Iterator[Rows]:
        """Yield what was published last."""
        with self._lock:
            every = tuple(self._series.values())
        for series in every:
            yield from series.rows()

    def settle(self) -> None:
        """Move to the cells that the memory hands out now."""
        with self._lock:
            for series in self._series.values():
                series.settle()

    def after_fork(self) -> None:
        """Start from zero in a forked child: what the sources have counted so far is the parent's."""
        self._lock = threading.RLock()
        for series in self._series.values():
            series.after_fork()
        if self._memory.slab is not None:
            self._seen = {(r.instrument.name, labels): row for r in self.read() for labels, row in r.rows}
