"""How often something may happen: a rate limiter in memory with one number a key; it knows no request."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, NamedTuple

from smw.errors import ConfigError

if TYPE_CHECKING:
    from smw._kernel.clock import Clock

__all__ = ["Decision", "Limiter", "Rate", "parse_rate"]

_RATE = re.compile(r"\s*(\d{1,9})\s*(?:/|per)\s*(\d{1,9})?\s*([a-z]+)\s*", re.IGNORECASE)
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3_600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
_OVERFLOW = "\x00overflow"
_SWEEP_S = 1.0
_ROUNDING = 1e-6


class Rate(NamedTuple):
    """So many in so long.

    Args:
        events: How many.
        period_s: In how many seconds.
    """

    events: int
    period_s: int


class Decision(NamedTuple):
    """Whether something may happen now.

    Args:
        allowed: It may.
        remaining: How many more may follow at once.
        retry_after_s: Seconds until it may; 0 where it may now.
    """

    allowed: bool
    remaining: int
    retry_after_s: float


def parse_rate(text: str) -> Rate:
    """Read `100/minute`, `5 per second`, `10/15 minutes`.

    Raises:
        ConfigError: It is no rate.
    """
    match = _RATE.fullmatch(text)
    seconds = _UNITS.get(match[3].lower()) if match else None
    if match is None or seconds is None or not int(match[1]) or match[2] == "0":
        fix = "a count and a time, such as 100/minute or 10/15 seconds; the setting is SECURITY_RATE_LIMIT"
        raise ConfigError("SMW-A117", f"{text!r:.80} is no rate", fix=fix)
    return Rate(int(match[1]), int(match[2] or 1) * seconds)


class _Bucket:
    """The keys of one rate: for each the time at which it will have used up nothing again."""

    __slots__ = ("due", "each_s", "next_sweep", "period_s")

    def __init__(self, rate: Rate) -> None:
        self.period_s = rate.period_s
        self.each_s = rate.period_s / rate.events
        self.due: dict[str, float] = {}
        self.next_sweep = 0.0

    def room_for(self, key: str, now: float, max_keys: int) -> str:
        """Forget keys that used nothing lately; where all did, name the one that the others share."""
        if now >= self.next_sweep:
            self.next_sweep = now + _SWEEP_S  # a flood of keys must not make every hit walk the table
            self.due = {known: due for known, due in self.due.items() if due > now}
        return key if len(self.due) < max_keys else _OVERFLOW


class Limiter:
    """Counts by GCRA: one number for each key and rate.

    Limits hold per process. Keys beyond `max_keys` that are all in use share one count, so that memory stays
    bounded and a flood of keys limits itself.

    Args:
        clock: Monotonic time.
        max_keys: Keys remembered at once for each rate.
    """

    def __init__(self, clock: Clock, *, max_keys: int = 65_536) -> None:
        self._now = clock.now
        self._max_keys = max_keys
        self._buckets: dict[str | Rate, _Bucket] = {}
        self._lock = threading.Lock()

    def hit(self, key: str, rate: str | Rate, cost: int = 1) -> Decision:
        """Count one event, unless it is refused: refusals cost nothing.

        Args:
            key: Who or what is limited.
            rate: How many in how long; each rate counts apart.
            cost: How many events this one stands for.

        Raises:
            ConfigError: `rate` is no rate.
        """
        bucket = self._buckets.get(rate) or self._bucket(rate)
        now = self._now()
        with self._lock:
            due = bucket.due.get(key)
            if due is None and len(bucket.due) >= self._max_keys:
                key = bucket.room_for(key, now, self._max_keys)
                due = bucket.due.get(key)
            due = (now if due is None or due < now else due) + bucket.each_s * cost
            spare_s = now + bucket.period_s - due
            if spare_s < -_ROUNDING * bucket.period_s:
                return Decision(allowed=False, remaining=0, retry_after_s=-spare_s)
            bucket.due[key] = due
        return Decision(True, int(spare_s / bucket.each_s + _ROUNDING), 0.0)  # noqa: FBT003 - keywords take a third longer

    def after_fork(self) -> None:
        """Drop a lock that another thread of the parent may have held."""
        self._lock = threading.Lock()

    def _bucket(self, rate: str | Rate) -> _Bucket:
        parsed = parse_rate(rate) if isinstance(rate, str) else rate
        with self._lock:
            bucket = self._buckets[rate] = self._buckets.setdefault(parsed, _Bucket(parsed))
        return bucket
