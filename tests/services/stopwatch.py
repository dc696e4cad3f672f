"""How long something took, less what the machine kept this process waiting for a processor meanwhile.

A promise of so many seconds is about the code. Where others use the machine too, its threads are ready to run and do
not; where the machine is a virtual one, its processors stand still while their host has others run. Linux tells how
long, elsewhere nothing is taken off.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

__all__ = ["Stopwatch"]

_THREADS = Path("/proc/self/task")
_PROCESSORS = Path("/proc/stat")


class Stopwatch:
    """Begins when it is made."""

    def __init__(self) -> None:
        self._waited, self._stolen = _waited(), _stolen()
        self._began = time.perf_counter()

    def took_s(self) -> float:
        """Return the seconds since it was made, without those in which threads waited for a processor, or it stood.

        A tenth is left, however many threads waited at once: what never happens is too late some day.
        """
        took_s = time.perf_counter() - self._began
        waited_ns = sum(now - self._waited.get(thread, 0) for thread, now in _waited().items())
        stood_s = max((now - self._stolen.get(processor, 0.0) for processor, now in _stolen().items()), default=0.0)
        return max(took_s / 10, took_s - waited_ns / 1e9 - stood_s)


def _waited() -> dict[str, int]:
    """Return thread → the nanoseconds that it has waited for a processor since it began."""
    waited = {}
    with contextlib.suppress(OSError):
        for thread in _THREADS.iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                waited[thread.name] = int((thread / "schedstat").read_text().split()[1])
    return waited


def _stolen() -> dict[str, float]:
    """Return processor → the seconds for which its host has had others run."""
    stolen = {}
    with contextlib.suppress(OSError, ValueError):
        for line in _PROCESSORS.read_text().splitlines():
            name, *ticks = line.split()
            if name.startswith("cpu") and name != "cpu" and len(ticks) > 7:
                stolen[name] = int(ticks[7]) / os.sysconf("SC_CLK_TCK")
    return stolen
