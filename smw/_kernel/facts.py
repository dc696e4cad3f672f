"""Figures that a part keeps in plain slots and gives away only when somebody reads them; knows no metrics library."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Fact", "FactSource", "Facts"]

_log = logging.getLogger("smw.facts")


@dataclass(frozen=True, slots=True)
class Fact:
    """One number with its name and labels, as it stands now.

    Args:
        name: Metric name, unit included (``_total``, ``_seconds``, ``_bytes``).
        kind: ``counter`` only grows, ``gauge`` may fall, ``histogram`` counts values by size.
        help: One line for people.
        labels: Pairs of label name and value; bounded values only, nothing personal.
        value: The number; of a histogram, how many values.
        bounds: Of a histogram: upper bounds of its buckets, ascending, without infinity.
        cells: Of a histogram: the values of each bucket, those beyond the last bound, and the sum of all.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[tuple[str, str], ...]
    value: float
    bounds: tuple[float, ...] = ()
    cells: tuple[float, ...] = ()


FactSource = Callable[[], Iterable[Fact]]


class Facts:
    """The sources of one runtime, read at scrape time."""

    def __init__(self) -> None:
        self._sources: tuple[FactSource, ...] = ()
        self._watchers: tuple[Callable[[], None], ...] = ()

    @property
    def has_sources(self) -> bool:
        """Whether anybody keeps figures."""
        return bool(self._sources)

    def watch(self, look: Callable[[], None]) -> Callable[[], None]:
        """Call `look` after a source was added and before one is removed; returns the function that ends that."""
        self._watchers = (*self._watchers, look)

        def end() -> None:
            self._watchers = tuple(other for other in self._watchers if other is not look)

        return end

    def _changed(self) -> None:
        for look in self._watchers:
            try:
                look()
            except Exception:  # noqa: BLE001 - the part that opens or closes must not fail for it
                _log.exception("looking at the facts failed")

    def add(self, source: FactSource) -> Callable[[], None]:
        """Register `source`; returns the function that removes it."""
        self._sources = (*self._sources, source)
        self._changed()

        def remove() -> None:
            if source in self._sources:
                self._changed()
            self._sources = tuple(other for other in self._sources if other is not source)

        return remove

    def __iter__(self) -> Iterator[Fact]:
        """Yield every fact of every source; one that fails is logged and passed over."""
        for source in self._sources:
            try:
                facts = tuple(source())
            except Exception:  # noqa: BLE001 - one part's mistake must not hide the others' figures
                _log.exception("a source of facts failed")
                continue
            yield from facts
