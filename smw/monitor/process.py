"""Memory and CPU of this process and its fellow workers, read when somebody scrapes; knows no metrics library."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smw.monitor.cells import Reading
from smw.monitor.instruments import CPU, MEMORY, MEMORY_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from smw._kernel.clock import Clock

__all__ = ["ProcessFacts", "Processes", "allotted_cpus", "memory_limit_bytes"]

_WINDOW_S = 1.0
_CGROUP = Path("/sys/fs/cgroup")


def allotted_cpus(cgroup: Path = _CGROUP) -> float:
    """Return how many CPUs this process may use: the cgroup's quota, else those it may run on."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        return min(int(quota) / int(period), usable)
    except (OSError, ValueError, ZeroDivisionError):
        return float(usable)


def memory_limit_bytes(total: Callable[[], int], cgroup: Path = _CGROUP) -> int:
    """Return how much memory this process may use: the cgroup's limit, else all there is.

    Args:
        total: Returns the machine's memory.
        cgroup: Where the cgroup's files are.
    """
    try:
        return int((cgroup / "memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return total()


class ProcessFacts:
    """Reads the process at scrape time.

    CPU is measured over windows of at least a second that belong to this object, so that two scrapers see the
    same figure. The first one covers the life of the process so far.

    Args:
        clock: Measures the windows.
        pid: Which process; None takes this one.
    """

    def __init__(self, clock: Clock, pid: int | None = None) -> None:
        self._clock = clock
        self._pid = pid
        self._lock = threading.Lock()
        self._process: Any = None
        self._cpus = 1.0
        self._limit = 0
        self._percent = 0.0
        self._since = 0.0
        self._used_s = 0.0

    def _begin(self) -> None:
        import psutil

        self._process = psutil.Process(self._pid)
        self._cpus = allotted_cpus()
        self._limit = memory_limit_bytes(lambda: int(psutil.virtual_memory().total))
        self._since = self._clock.now()
        self._used_s = self._cpu_s()
        lived_s = self._clock.wall() - self._process.create_time()
        self._percent = self._share(self._used_s, lived_s) if lived_s >= _WINDOW_S else 0.0

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _share(self, used_s: float, elapsed_s: float) -> float:
        percent = 100.0 * used_s / elapsed_s / self._cpus
        return percent if math.isfinite(percent) and percent > 0.0 else 0.0

    def figures(self) -> tuple[float, float, float]:
        """Return memory, its limit, and CPU."""
        with self._lock:
            if self._process is None:
                self._begin()
            elapsed_s = self._clock.now() - self._since
            if elapsed_s >= _WINDOW_S:
                used_s = self._cpu_s()
                self._percent = self._share(used_s - self._used_s, elapsed_s)
                self._since += elapsed_s
                self._used_s = used_s
            process: Any = self._process
            return float(process.memory_info().rss), float(self._limit), self._percent


class Processes:
    """This process and others that belong to it.

    Args:
        clock: Measures the windows of CPU.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._own = ProcessFacts(clock)
        self._others: dict[int, ProcessFacts] = {}

    def read(self, others: Iterable[int] = ()) -> Iterator[Reading]:
        """Yield memory and CPU of all, and what they may have together.

        Args:
            others: Ids of the other processes; one that has just ended is left out.
        """
        self._others = {pid: self._others.get(pid) or ProcessFacts(self._clock, pid) for pid in others}
        resident, limit, percent = self._own.figures()
        for facts in tuple(self._others.values()):
            with contextlib.suppress(Exception):  # it may have ended by now
                more, _, busy = facts.figures()
                resident += more
                percent += busy
        yield Reading(MEMORY, [((), [resident])])
        yield Reading(MEMORY_LIMIT, [((), [limit])])
        yield Reading(CPU, [((), [percent])])

    def after_fork(self) -> None:
        """Look at the child, not at the parent."""
        self._own = ProcessFacts(self._clock)
        self._others = {}
