"""Makes the figures of one monitor part of its host's: joins, publishes, adds up; knows no exposition format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from smw.monitor.http import shown
from smw.monitor.instruments import HTTP_ROWS
from smw.monitor.ticker import Ticker
from smw.monitor.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from smw._kernel.host import Host
    from smw.monitor.cells import Reading
    from smw.monitor.memory import Memory
    from smw.monitor.pulled import Pulled
    from smw.monitor.totals import Rows

__all__ = ["Meter", "Shared"]

_SWEEP_EVERY = 10


class Meter(Protocol):
    """Something with cells."""

    def rows(self) -> Iterator[Rows]:
        """Yield a copy of all cells by instrument."""
        ...

    def settle(self) -> None:
        """Move to the cells that the memory hands out now."""
        ...


class Shared:
    """The membership of one monitor in the folder of its host's workers.

    What the meters count is in the shared file at once. Facts are put there every second by a thread, which starts with
    the first source of facts; before every scrape that this process answers; before a source ends; and on closing.

    Args:
        folder: The folder.
        host: Has the facts, and chance for names.
        memory: Hands out the cells.
        meters: All that have cells, `pulled` among them.
        pulled: The facts.
        most: Series kept per metric.
    """

    def __init__(
        self, folder: Path, host: Host, memory: Memory, meters: Sequence[Meter], pulled: Pulled, *, most: int
    ) -> None:
        self._workers = Workers(folder, host.entropy, most=most)
        self._facts = host.facts
        self._memory = memory
        self._meters = meters
        self._pulled = pulled
        self._ticker = Ticker(self._tick)
        self._ticks = 0
        self._unwatch: Callable[[], None] = _nothing

    def open(self) -> None:
        """Join, with all that was counted so far; idempotent. Where that cannot be, figures stay private."""
        slab = self._memory.slab
        if slab is None:
            self._memory.use(self._workers.join())
            for meter in self._meters:
                meter.settle()
            if self._memory.slab is not None:
                self._workers.fold()
        else:
            slab.close(closed=False)
        if self._memory.slab is not None:
            self._unwatch()
            self._unwatch = self._facts.watch(self._facts_changed)
            if self._facts.has_sources:
                self._ticker.start()

    def _facts_changed(self) -> None:
        self._pulled.publish()
        self._ticker.start()

    def _tick(self) -> None:
        self._pulled.publish()
        self._ticks += 1
        if self._ticks % _SWEEP_EVERY == 0:
            self._workers.fold()

    def readings(self) -> tuple[list[Reading], set[int]] | None:
        """Return every metric, added up over the workers, but those of processes; and the ids of the other processes.

        None where figures are private after all.
        """
        slab = self._memory.slab
        if slab is None:
            return None
        self._pulled.publish()
        totals, pids = self._workers.read(slab, (rows for meter in self._meters for rows in meter.rows()))
        readings: list[Reading] = []
        for reading in totals.readings():
            readings += shown(reading.rows) if reading.instrument == HTTP_ROWS else (reading,)
        return readings, pids

    def close(self) -> None:
        """Publish what is left; from now on the gauges of this process count no more. Idempotent."""
        self._unwatch()
        self._ticker.stop()
        if self._memory.slab is not None:
            self._pulled.publish()
            self._memory.slab.close()

    def after_fork(self) -> None:
        """Join as a process of its own in a forked child; the meters have to move after that."""
        self._ticker.after_fork()
        self._workers.after_fork()
        slab = self._memory.slab
        if slab is not None:
            self._memory.use(self._workers.join())
            slab.abandon()
            if self._memory.slab is not None and self._facts.has_sources:
                self._ticker.start()


def _nothing() -> None:
    """End nothing."""
