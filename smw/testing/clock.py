"""The fake clock and repeatable randomness of tests; know nothing of what is tested."""

from __future__ import annotations

import asyncio
import random
import threading

__all__ = ["FakeClock", "SeededEntropy"]


class FakeClock:
    """A clock that stands still until it is advanced.

    Args:
        wall: Seconds since the epoch at the start.
        now: Monotonic seconds at the start.
    """

    def __init__(self, *, wall: float = 1_700_000_000.0, now: float = 1_000.0) -> None:
        self._wall = wall
        self._now = now
        self._lock = threading.Condition()

    def now(self) -> float:
        """Return the monotonic seconds."""
        return self._now

    def wall(self) -> float:
        """Return the seconds since the epoch."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks and wake who waited for it."""
        with self._lock:
            self._now += seconds
            self._wall += seconds
            self._lock.notify_all()

    def step_wall(self, seconds: float) -> None:
        """Move the wall clock alone, as an operator or a time server may."""
        self._wall += seconds

    async def sleep(self, seconds: float) -> None:
        """Suspend until the clock was advanced by `seconds`; other tasks run meanwhile."""
        until = self._now + seconds
        await asyncio.sleep(0)
        while self._now < until:  # noqa: ASYNC110 - an Event belongs to one loop, this clock to every loop
            await asyncio.sleep(0.0005)

    def pause(self, seconds: float) -> None:
        """Block until another thread has advanced the clock by `seconds`."""
        until = self._now + seconds
        with self._lock:
            self._lock.wait_for(lambda: self._now >= until)


class SeededEntropy:
    """Randomness that repeats: same seed, same values.

    Args:
        seed: Any int.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def random(self) -> float:
        """Return a float in [0, 1)."""
        return self._random.random()

    def token_bytes(self, count: int) -> bytes:
        """Return `count` bytes."""
        return self._random.randbytes(count)
