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
        kind: ``counter`` only grows, ``gauge`` may fall.
        help: One line for people.
        labels: Pairs of label name and value; bounded values only, nothing personal.
        value: The number.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[tuple[str, str], ...]
    value: float


FactSource = Callable[[], Iterable[Fact]]


class Facts:
    """The sources of one runtime, read at scrape time."""

    def __init__(self) -> None:
        self._sources: tuple[FactSource, ...] = ()

    def add(self, source: FactSource) -> Callable[[], None]:
        """Register `source`; returns the function that removes it."""
        self._sources = (*self._sources, source)

        def remove() -> None:
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
