"""The only source of time, sleep and randomness; every other module is handed a `Clock` and an `Entropy`."""

from __future__ import annotations

import random
import secrets
import time
from typing import Protocol

__all__ = ["Clock", "Entropy", "SystemClock", "SystemEntropy"]


class Clock(Protocol):
    """Time as the runtime sees it."""

    def now(self) -> float:
        """Return monotonic seconds; only differences mean anything."""
        ...

    def wall(self) -> float:
        """Return seconds since the Unix epoch; may step."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend the running task for `seconds`."""
        ...

    def pause(self, seconds: float) -> None:
        """Block the calling thread for `seconds`."""
        ...


class Entropy(Protocol):
    """Randomness as the runtime sees it."""

    def random(self) -> float:
        """Return a float in [0, 1) for jitter and sampling; never for secrets."""
        ...

    def token_bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes, fit for keys and nonces."""
        ...


class SystemClock:
    """The operating system's clocks."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    busy = staticmethod(time.thread_time)
    """Returns the seconds that the calling thread has computed, waiting left out."""

    def pause(self, seconds: float) -> None:
        """Block the calling thread for `seconds`."""
        time.sleep(seconds)

    async def sleep(self, seconds: float) -> None:
        """Suspend the running task for `seconds`."""
        import asyncio

        await asyncio.sleep(seconds)


class SystemEntropy:
    """The operating system's randomness."""

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - jitter only, never a secret

    def token_bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes."""
        return secrets.token_bytes(count)

    def random(self) -> float:
        """Return a float in [0, 1)."""
        return self._random.random()
