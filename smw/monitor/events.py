"""Turns the rare signals of the other parts into metrics; what is frequent they keep as facts. Knows no sender."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw._kernel import signals
from smw.monitor import instruments
from smw.monitor.cells import Losses, Reading, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from smw._kernel.signals import Bus
    from smw.monitor.memory import Memory
    from smw.monitor.totals import Rows

__all__ = ["Events"]


class Events:
    """What happened rarely enough to be told by signal.

    Args:
        bus: Carries the signals.
        limit: Series kept per metric.
        losses: Where reaching the limit is reported.
        memory: Where the cells are kept.
    """

    def __init__(self, bus: Bus, *, limit: int, losses: Losses, memory: Memory | None = None) -> None:
        def series(instrument: instruments.Instrument) -> Series:
            made = Series(instrument, limit=limit, losses=losses, memory=memory)
            self._series.append(made)
            return made

        self._series: list[Series] = []
        self._up = series(instruments.BACKEND_UP)
        self._down = series(instruments.BACKEND_DOWN)
        self._uncached = series(instruments.CACHE_UNCACHED)
        self._denied = series(instruments.DENIED)
        self._shadowed = series(instruments.SHADOWED)
        self._trail = series(instruments.TRAIL_FAILURES)
        self._blocked = series(instruments.BLOCKED)
        self._runs = series(instruments.BATCH_RUNS)
        self._trail.declare()
        self._ends: list[Callable[[], None]] = [
            bus.subscribe(signals.BackendDown, self._backend_down),
            bus.subscribe(signals.BackendUp, self._backend_up),
            bus.subscribe(signals.CacheUncached, lambda s: self._uncached.add((("fn", s.fn), ("reason", s.reason)))),
            bus.subscribe(signals.AccessDenied, lambda s: self._denied.add((("fn", s.fn), ("control", s.control)))),
            bus.subscribe(signals.AccessShadowed, lambda s: self._shadowed.add((("fn", s.fn), ("control", s.control)))),
            bus.subscribe(signals.TrailFailed, lambda _: self._trail.add(())),
            bus.subscribe(
                signals.RequestBlocked, lambda s: self._blocked.add((("policy", s.policy), ("reason", s.reason)))
            ),
            bus.subscribe(signals.BatchDone, lambda s: self._runs.add((("name", s.name),))),
        ]

    def _backend_down(self, signal: signals.BackendDown) -> None:
        labels = (("backend", signal.backend),)
        self._up.put(labels, 0.0)
        self._down.add(labels)

    def _backend_up(self, signal: signals.BackendUp) -> None:
        self._up.put((("backend", signal.backend),), 1.0)

    def after_fork(self) -> None:
        """Start from zero in a forked child."""
        for series in self._series:
            series.after_fork()

    def settle(self) -> None:
        """Move to the cells that the memory hands out now."""
        for series in self._series:
            series.settle()

    def rows(self) -> Iterator[Rows]:
        """Yield a copy of all cells by instrument."""
        for series in self._series:
            yield from series.rows()

    def read(self) -> Iterator[Reading]:
        """Yield every metric that signals feed."""
        for series in self._series:
            yield series.read()

    def close(self) -> None:
        """Stop listening; the figures stay readable."""
        for end in self._ends:
            end()
        self._ends = []
