"""Times and ages as a cache counts them: buckets in plain lists, read when somebody scrapes; nothing on a hit."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from smw._kernel.facts import Fact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from smw.cache.levels.level import Level

__all__ = ["Spread", "Watch", "timings", "watch_facts"]

_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
_AGES = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0)
_LATENCY = "Seconds that a request to a level took, or the function itself (level source)."
_AGE = "Seconds since what a server answered with was stored."


class Spread:
    """Values by size, under a few names. A tick lost between threads is accepted.

    Args:
        bounds: Upper bounds of the buckets, ascending.
    """

    __slots__ = ("_cells", "bounds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self._cells: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        """Count `value` under `name`."""
        cells = self._cells.get(name)
        if cells is None:
            cells = self._cells.setdefault(name, [0.0] * (len(self.bounds) + 2))
        cells[bisect_left(self.bounds, value)] += 1.0
        cells[-1] += value

    def items(self) -> list[tuple[str, tuple[float, ...]]]:
        """Return name and cells: those of each bucket, one beyond the last bound, and the sum."""
        return [(name, tuple(cells)) for name, cells in self._cells.copy().items()]


def timings() -> Spread:
    """Return where the requests to one server are timed, each under its name."""
    return Spread(_SECONDS)


class Watch:
    """What one cache times besides its servers.

    Attributes:
        loads: Under ``load``: seconds that functions took.
        ages: Under each level: age of what it answered with.
    """

    __slots__ = ("ages", "loads")

    def __init__(self) -> None:
        self.loads = timings()
        self.ages = Spread(_AGES)


def watch_facts(watch: Watch, servers: Iterable[Level]) -> Iterator[Fact]:
    """Yield times and ages; those of several servers of a level are added up by who reads them."""
    for level, spread in (("source", watch.loads), *((server.name, server.timings) for server in servers)):
        for op, cells in spread.items():
            labels = (("level", level), ("op", op))
            yield _histogram("smw_cache_latency_seconds", _LATENCY, labels, spread.bounds, cells)
    for level, cells in watch.ages.items():
        yield _histogram("smw_cache_served_age_seconds", _AGE, (("level", level),), watch.ages.bounds, cells)


def _histogram(
    name: str, about: str, labels: tuple[tuple[str, str], ...], bounds: tuple[float, ...], cells: tuple[float, ...]
) -> Fact:
    return Fact(name, "histogram", about, labels, sum(cells[:-1]), bounds, cells)
