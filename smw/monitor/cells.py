"""The series that metrics are kept in: numbers under a lock, bounded in number; knows no exposition format."""

from __future__ import annotations

import logging
import math
import threading
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from smw.monitor.instruments import DROPPED, OVERFLOW, Instrument
from smw.monitor.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Cells", "Histogram", "Labels", "Losses", "Reading", "Series", "clean"]

Labels = tuple[tuple[str, str], ...]
Cells: TypeAlias = "list[float] | memoryview[float]"  # private, or in the file of this worker
_LABEL_BYTES = 256
_SAID_MAX = 100
_log = logging.getLogger("smw.monitor")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one instrument shows at one moment.

    Args:
        instrument: Which one.
        rows: Labels and figures: one number for counters and gauges; (count, sum) for a summary; one number per
            bucket, then one beyond the last bound, then the sum for a histogram.
    """

    instrument: Instrument
    rows: list[tuple[Labels, list[float]]]


def clean(value: object) -> str:
    """Return a label value that every exposition format can carry: valid Unicode of at most 256 bytes."""
    text = value if isinstance(value, str) else str(value)
    if len(text) <= _LABEL_BYTES // 4 and text.isprintable():
        return text
    return text.encode("utf-8", "replace")[:_LABEL_BYTES].decode("utf-8", "ignore")


def moved(cells: Cells, fresh: Cells) -> Cells:
    """Return `fresh` with the figures of `cells` in it."""
    for place, value in enumerate(cells):
        fresh[place] = value
    return fresh


class Losses:
    """Counts the telemetry that was given up, and says so once for each cause.

    Args:
        memory: Where the counts are kept.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._lock = threading.RLock()
        self._memory = memory or Memory()
        self._counts: dict[str, Cells] = {}
        self._said: set[str] = set()

    def lost(self, kind: str, why: str, *args: object) -> None:
        """Count one loss of `kind`; log `why % args` the first time that text would appear.

        Args:
            kind: Short constant, a label value.
            why: Format of the warning.
            *args: Its arguments.
        """
        with self._lock:
            cell = self._counts.get(kind)
            if cell is None:
                cell = self._counts[kind] = self._memory.cells(DROPPED, (("kind", kind),), 1)
            cell[0] += 1.0
            text = why % args
            first = text not in self._said and len(self._said) < _SAID_MAX
            if first:
                self._said.add(text)
        if first:
            _log.warning("%s", text)

    def after_fork(self) -> None:
        """Start from nothing in a forked child."""
        self._lock = threading.RLock()
        self._counts = {}

    def settle(self) -> None:
        """Move to the cells that the memory hands out now."""
        with self._lock:
            for kind, cell in self._counts.items():
                self._counts[kind] = moved(cell, self._memory.cells(DROPPED, (("kind", kind),), 1))

    def read(self) -> Reading:
        """Return the counts by kind."""
        with self._lock:
            return Reading(DROPPED, [((("kind", kind),), [cell[0]]) for kind, cell in self._counts.items()])

    def rows(self) -> Iterator[tuple[Instrument, list[tuple[Labels, list[float]]]]]:
        """Yield the counts by kind."""
        reading = self.read()
        yield reading.instrument, reading.rows


class _Cells:
    """Cells by labels with a limit on their number.

    The lock is re-entrant because a garbage collection inside it may end a generator that counts something.
    """

    def __init__(self, instrument: Instrument, *, limit: int, losses: Losses, memory: Memory | None = None) -> None:
        self.instrument = instrument
        self._memory = memory or Memory()
        self._width = len(instrument.buckets) + 2 if instrument.kind == "histogram" else 1
        self._limit = limit
        self._losses = losses
        self._lock = threading.RLock()
        self._cells: dict[Labels, Cells] = {}
        self._handles: dict[Labels, list[Cells]] = {}

    def _new(self, labels: Labels) -> Cells:
        return self._memory.cells(self.instrument, labels, self._width)

    def _cell(self, labels: Labels) -> Cells:
        """Return the cell of `labels`, made on first use; the overflow's once the limit is reached."""
        labels = tuple((name, clean(value)) for name, value in labels)
        with self._lock:
            cell = self._cells.get(labels)
            if cell is not None:
                return cell
            full = len(self._cells) >= self._limit
            if full:
                labels = tuple((name, OVERFLOW) for name, _ in labels)
            cell = self._cells.get(labels)
            if cell is None:
                cell = self._cells[labels] = self._new(labels)
        if full:
            why = "metric %s has reached %d series; further ones are counted as %r"
            self._losses.lost("series", why, self.instrument.name, self._limit, OVERFLOW)
        return cell

    def handle(self, labels: Labels) -> list[Cells]:
        """Return what holds the cell of `labels`, for `tick`; it stays the same, in forked children too."""
        cell = self._cell(labels)
        with self._lock:
            return self._handles.setdefault(labels, [cell])

    def declare(self, *labels: tuple[str, str]) -> None:
        """Let the series of `labels` start at zero, so that its first increase can be seen."""
        self._cell(labels)

    def after_fork(self) -> None:
        """Start from zero in a forked child: the parent's figures stay the parent's. Gauges are unknown there."""
        self._lock = threading.RLock()
        if self.instrument.kind == "gauge":
            self._cells = {}
        self._move({labels: self._new(labels) for labels in self._cells})

    def settle(self) -> None:
        """Move to the cells that the memory hands out now."""
        with self._lock:
            self._move({labels: moved(cell, self._new(labels)) for labels, cell in self._cells.items()})

    def _move(self, cells: dict[Labels, Cells]) -> None:
        self._cells = cells
        for labels, handle in self._handles.items():
            handle[0] = self._cell(labels)

    def read(self) -> Reading:
        """Return a consistent copy."""
        with self._lock:
            return Reading(self.instrument, [(labels, list(cell)) for labels, cell in self._cells.items()])

    def rows(self) -> Iterator[tuple[Instrument, list[tuple[Labels, list[float]]]]]:
        """Yield a consistent copy with its instrument."""
        yield self.instrument, self.read().rows


class Series(_Cells):
    """A counter or gauge, or a histogram that somebody else keeps."""

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """Add `amount` to the series of `labels`; no tick is lost between threads."""
        cell = self._cells.get(labels) or self._cell(labels)
        with self._lock:
            cell[0] += amount

    def grow(self, labels: Labels, amounts: Sequence[float]) -> None:
        """Add to each figure of the series of `labels`."""
        cell = self._cells.get(labels) or self._cell(labels)
        with self._lock:
            for place, amount in enumerate(amounts):
                cell[place] += amount

    def tick(self, handle: list[Cells]) -> None:
        """Add 1 to the cell that a handle holds."""
        with self._lock:
            handle[0][0] += 1.0

    def put(self, labels: Labels, value: float) -> None:
        """Set the series of `labels` to `value`."""
        cell = self._cells.get(labels) or self._cell(labels)
        with self._lock:
            cell[0] = value


class Histogram(_Cells):
    """Counts of values by bucket, and their sum."""

    def observe(self, labels: Labels, value: float) -> None:
        """Count `value`; one that is negative, infinite or no number is dropped and counted as lost."""
        if not 0.0 <= value < math.inf:
            self._losses.lost("value", "metric %s: only finite values from 0 on count", self.instrument.name)
            return
        cell = self._cells.get(labels) or self._cell(labels)
        slot = bisect_left(self.instrument.buckets, value)
        with self._lock:
            cell[slot] += 1.0
            cell[-1] += value


def merge(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Yield one reading per metric name, in the order of first appearance."""
    by_name: dict[str, Reading] = {}
    for reading in readings:
        known = by_name.setdefault(reading.instrument.name, Reading(reading.instrument, []))
        known.rows.extend(reading.rows)
    yield from by_name.values()
