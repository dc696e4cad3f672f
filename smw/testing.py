"""What users and smw itself test with: fake clock, isolated runtime, recorded signals; needs no test framework."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from smw._kernel import signals as _signals
from smw._kernel.signals import Signal
from smw.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from smw._kernel.host import Host

__all__ = ["FakeClock", "Recorded", "SeededEntropy", "isolated"]

S = TypeVar("S", bound=Signal)


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


class Recorded:
    """Every signal that a runtime's bus carried, in order.

    Args:
        host: The host of the runtime to listen to.
    """

    def __init__(self, host: Host) -> None:
        self.all: list[Signal] = []
        kinds = [getattr(_signals, name) for name in _signals.__all__]
        self._ends = [host.bus.subscribe(k, self.all.append) for k in kinds if isinstance(k, type) and k is not Signal]

    def of(self, kind: type[S]) -> list[S]:
        """Return the signals of one kind."""
        return [signal for signal in self.all if isinstance(signal, kind)]

    def end(self) -> None:
        """Stop recording."""
        for end in self._ends:
            end()


@contextmanager
def isolated(profile: str = "testing", *, environ: Mapping[str, str] | None = None, **parts: Any) -> Iterator[Runtime]:
    """Run a block under a runtime of its own that reads no environment, then bring back the one before.

    Args:
        profile: Profile to use.
        environ: Environment to pretend; empty by default.
        parts: As for `Runtime`: ``cache={...}``, ``clock=FakeClock()``, ...
    """
    with Runtime(profile, environ=environ or {}, **parts) as runtime:
        yield runtime
