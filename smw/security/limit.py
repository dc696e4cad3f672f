"""How often a key may act: the generic cell rate algorithm in memory, one number a key; knows nothing of requests."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from smw.errors import ConfigError, nearest

if TYPE_CHECKING:
    from smw._kernel.clock import Clock

__all__ = ["Decision", "Limiter", "Rate"]

_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0}
_RATE = re.compile(r"\s*(\d{1,9})\s*(?:/|per)\s*(\d{0,6})\s*([a-z]+?)s?\s*", re.IGNORECASE)
_OVERFLOW = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so long.

    Args:
        limit: How many, at least 1; all of them may come at once.
        period_s: In how many seconds.
    """

    limit: int
    period_s: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``100/minute``, ``5 per 10 seconds`` and the like.

        Raises:
            ConfigError: It is none of these.
        """
        match = _RATE.fullmatch(text)
        unit = match.group(3).lower() if match else ""
        limit, units = (int(match.group(1)), int(match.group(2) or 1)) if match else (0, 0)
        if unit not in _UNITS or limit < 1 or units < 1:
            what = f"a rate limit is a number and a unit of time.{nearest(unit, _UNITS) if unit else ''}"
            raise ConfigError("SMW-A121", what, seen=text, fix="100/minute, 10/second, 5/10 seconds")
        return cls(limit, _UNITS[unit] * units)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a limiter says.

    Args:
        allowed: Whether to go on.
        remaining: How many more would be allowed now.
        retry_after_s: When it would be allowed; 0.0 when it is.
    """

    allowed: bool
    remaining: int
    retry_after_s: float


class Limiter:
    """Limits in the memory of one process; with several workers each has its own.

    A refused attempt costs nothing, so a client that keeps knocking is let in as soon as its time has come.

    Args:
        rate: The limit of every key.
        clock: Where time comes from.
        most_keys: Keys remembered. When that many are active at once, all further ones share one.
    """

    def __init__(self, rate: Rate, clock: Clock, *, most_keys: int = 100_000) -> None:
        self.rate = rate
        self._now = clock.now
        self._step_s = rate.period_s / rate.limit
        self._most = most_keys
        self._due: dict[str, float] = {}
        self._swept_at = clock.now()
        self._lock = threading.Lock()

    def hit(self, key: str, *, cost: int = 1) -> Decision:
        """Count one attempt of `key`.

        Args:
            key: Who.
            cost: How many it counts for.
        """
        now, period_s = self._now(), self.rate.period_s
        with self._lock:
            before = self._due.get(key)
            if before is None and len(self._due) >= self._most:
                key = self._make_room(key, now)
                before = self._due.get(key)
            due = (now if before is None or before < now else before) + self._step_s * cost
            wait_s = due - now - period_s
            # Sums of steps miss the period by a rounding error; an attempt must not fail for that.
            if wait_s > period_s * 1e-9:
                left = max(0.0, now + period_s - (before or now))
                return Decision(allowed=False, remaining=int(left / self._step_s + 1e-6), retry_after_s=wait_s)
            self._due[key] = due
        return Decision(allowed=True, remaining=int(max(0.0, -wait_s) / self._step_s + 1e-6), retry_after_s=0.0)

    def _make_room(self, key: str, now: float) -> str:
        """Forget keys that are not limited any more, at most once a second; without room `key` joins the overflow."""
        if now - self._swept_at >= 1.0:
            self._swept_at = now
            self._due = {name: due for name, due in self._due.items() if due > now}
        return key if len(self._due) < self._most else _OVERFLOW
