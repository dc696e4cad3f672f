"""How long something took, less what the machine kept this process waiting for a processor meanwhile.

A promise of so many seconds is about the code. Where others use the machine too, its threads are ready to run and do
not: Linux tells how long, elsewhere nothing is taken off.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

__all__ = ["Stopwatch"]

_THREADS = Path("/proc/self/task")


class Stopwatch:
    """Begins when it is made."""

    def __init__(self) -> None:
        self._waited = _waited()
        self._began = time.perf_counter()

    def took_s(self) -> float:
        """Return the seconds since it was made, without those in which threads had to wait for a processor.

        A tenth is left, however many threads waited at once: what never happens is too late some day.
        """
        took_s = time.perf_counter() - self._began
        waited_ns = sum(now - self._waited.get(thread, 0) for thread, now in _waited().items())
        return max(took_s / 10, took_s - waited_ns / 1e9)


def _waited() -> dict[str, int]:
    """Return thread → the nanoseconds that it has waited for a processor since it began."""
    waited = {}
    with contextlib.suppress(OSError):
        for thread in _THREADS.iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                waited[thread.name] = int((thread / "schedstat").read_text().split()[1])
    return waited
