"""When a failed record is tried again; knows neither records nor clocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smw.errors import ConfigError

if TYPE_CHECKING:
    from smw._kernel.clock import Entropy

__all__ = ["Backoff", "Retry"]

_JITTER = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often, and how long apart, a failing record is tried again.

    The default tries six times within about half a minute: at once, then after 1, 2, 4, 8 and 15 seconds.
    Up to a quarter is added to each wait at random, so that records that failed together come back apart;
    no wait is ever shorter than stated.

    Args:
        times: Attempts after the first one; 0 gives up at the first failure.
        first: Seconds before the first retry.
        factor: How much longer each further wait is.
        cap: Longest wait in seconds.

    Raises:
        ConfigError: A value makes no sense; raised where it is written.
    """

    times: int = 5
    first: float = 1.0
    factor: float = 2.0
    cap: float = 15.0

    def __post_init__(self) -> None:
        """Check the values."""
        times: object = self.times
        if isinstance(times, bool) or not isinstance(times, int) or times < 0:
            raise _refused("times", self.times, "a whole number of retries, 0 or more")
        for name, least in (("first", 0.0), ("factor", 1.0), ("cap", 0.0)):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not is_number or value < least:
                raise _refused(name, value, f"a finite number of at least {least:g}")
        if self.cap < self.first:
            raise _refused("cap", self.cap, f"at least first={self.first:g}")

    def allows(self, attempt: int) -> bool:
        """Tell whether attempt number `attempt` may be made."""
        return attempt <= self.times + 1

    def delay_s(self, failures: int, entropy: Entropy) -> float:
        """Return the seconds to wait after so many failures, jitter included."""
        exponent = min(failures - 1, 64)
        return min(self.cap, self.first * self.factor**exponent) * (1 + _JITTER * entropy.random())


class Backoff:
    """Growing waits between attempts to reach a store, from 50 ms to one second."""

    __slots__ = ("_entropy", "_next_s")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._next_s = 0.05

    def next_s(self) -> float:
        """Return the wait before the next attempt."""
        wait_s, self._next_s = self._next_s, min(1.0, self._next_s * 2)
        return wait_s * (1 + _JITTER * self._entropy.random())

    def reset(self) -> None:
        """Start again from the shortest wait."""
        self._next_s = 0.05


def _refused(name: str, value: object, wanted: str) -> ConfigError:
    return ConfigError("SMW-P103", f"Retry({name}=...) must be {wanted}", seen=repr(value), fix="pipeline.Retry()")
