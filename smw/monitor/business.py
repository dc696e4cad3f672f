"""Counts the calls of decorated functions by outcome when they have ended; knows neither spans nor exposition."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from smw._kernel.call import Call, Target
from smw._kernel.chain import Bound, Proceed
from smw.monitor.cells import Histogram, Labels, Losses, Reading, Series
from smw.monitor.instruments import OUTCOMES, business_total, business_value
from smw.monitor.memory import Memory

if TYPE_CHECKING:
    from smw.monitor.decorators import BusinessMetric
    from smw.monitor.totals import Rows

__all__ = ["Business"]

_CANCELLED = (asyncio.CancelledError, GeneratorExit)
Labelled = Callable[[Call], Labels]


class Business:
    """The business metrics of one monitor.

    Args:
        limit: Series kept per metric.
        losses: Where what cannot be counted is reported.
        memory: Where the cells are kept.
    """

    def __init__(self, *, limit: int, losses: Losses, memory: Memory | None = None) -> None:
        self._memory = memory or Memory()
        self._limit = limit
        self._losses = losses
        self._lock = threading.Lock()
        self._totals: dict[str, Series] = {}
        self._values: dict[str, Histogram] = {}

    def _total(self, name: str) -> Series:
        with self._lock:
            if name not in self._totals:
                self._totals[name] = Series(
                    business_total(name), limit=self._limit, losses=self._losses, memory=self._memory
                )
            return self._totals[name]

    def _value(self, name: str) -> Histogram:
        with self._lock:
            if name not in self._values:
                self._values[name] = Histogram(
                    business_value(name), limit=self._limit, losses=self._losses, memory=self._memory
                )
            return self._values[name]

    def declare(self, metric: BusinessMetric) -> None:
        """Let the outcomes of a decorated function start at 0, where its labels are known before a call."""
        fixed = tuple((name, source) for name, source in metric.labels.items() if isinstance(source, str))
        if len(fixed) == len(metric.labels):
            total = self._total(metric.metric)
            for outcome in OUTCOMES:
                total.declare(("outcome", outcome), *fixed)

    def bind(self, metric: BusinessMetric, target: Target) -> Bound:
        """Return the step that counts the calls of `target`."""
        self.declare(metric)
        total = self._total(metric.metric)
        values = None if metric.value is None else self._value(metric.metric)
        labelled = self._labelled(metric, target)
        fixed = None if labelled else tuple((name, str(text)) for name, text in metric.labels.items())
        success = None if fixed is None else total.handle((("outcome", "success"), *fixed))
        losses, measure = self._losses, metric.value

        def labels_of(call: Call) -> Labels:
            return labelled(call) if labelled is not None else fixed or ()

        async def around(call: Call, proceed: Proceed) -> Any:
            try:
                result = await proceed()
            except BaseException as error:
                outcome = "cancelled" if isinstance(error, _CANCELLED) else "error"
                total.add((("outcome", outcome), *labels_of(call)))
                raise
            if success is not None:
                total.tick(success)
            else:
                total.add((("outcome", "success"), *labels_of(call)))
            if values is not None and measure is not None:
                try:
                    values.observe(labels_of(call), float(measure(result)))
                except Exception as error:  # noqa: BLE001 - the call has succeeded; its value is only watched
                    why = "@track_business_metric(%r) on %s: value failed with %s"
                    losses.lost("value", why, metric.metric, target.name, type(error).__name__)
            return result

        return Bound(around)

    def _labelled(self, metric: BusinessMetric, target: Target) -> Labelled | None:
        """Return the function from a call to its labels; None where they are the same for all calls."""
        sources = tuple(metric.labels.items())
        if all(isinstance(source, str) for _, source in sources):
            return None
        losses = self._losses

        def labelled(call: Call) -> Labels:
            labels = []
            for name, source in sources:
                try:
                    labels.append((name, source if isinstance(source, str) else str(source(call.arguments))))
                except Exception as error:  # noqa: BLE001 - a label must not fail the call
                    why = "@track_business_metric(%r) on %s: label %r failed with %s"
                    losses.lost("label", why, metric.metric, target.name, name, type(error).__name__)
                    labels.append((name, ""))
            return tuple(labels)

        return labelled

    def after_fork(self) -> None:
        """Start from zero in a forked child."""
        self._lock = threading.Lock()
        for cells in (*self._totals.values(), *self._values.values()):
            cells.after_fork()

    def _every(self) -> tuple[Series | Histogram, ...]:
        with self._lock:
            return (*self._totals.values(), *self._values.values())

    def settle(self) -> None:
        """Move to the cells that the memory hands out now."""
        for cells in self._every():
            cells.settle()

    def read(self) -> Iterator[Reading]:
        """Yield every business metric."""
        for cells in self._every():
            yield cells.read()

    def rows(self) -> Iterator[Rows]:
        """Yield a copy of all cells by instrument."""
        for cells in self._every():
            yield from cells.rows()
