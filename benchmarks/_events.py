"""The events of the pipeline's tasks and the clock of their handlers; knows no broker."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STREAM", "Clocked", "Event", "event", "key"]

KINDS = ("play", "skip", "like", "save", "share")
STREAM = "bench_events"


class Event(BaseModel):
    """What happened in a music service."""

    event_id: str
    user_id: int
    kind: str
    track_id: int
    ms_played: int
    at: str
    country: str
    t0: float


def key(number: int) -> str:
    """Return the key of an event, its user."""
    return str(number * 7919 % 10007)


def event(number: int) -> bytes:
    """Return one event as JSON."""
    fields = {
        "event_id": f"e{number:09d}",
        "user_id": number * 7919 % 10007,
        "kind": KINDS[number % 5],
        "track_id": number * 31 % 5000,
        "ms_played": number * 37 % 240000,
        "at": "2026-01-01T00:00:00Z",
        "country": "FR",
        "t0": 0.0,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


class Clocked:
    """A handler's clock: from the first call to the last, then `last` is called."""

    def __init__(self, count: int, last: Callable[[], None] = lambda: None) -> None:
        self._count, self._last = count, last
        self._calls, self._started = 0, 0.0
        self.rate = 0.0

    def tick(self) -> None:
        """Count one call."""
        if not self._calls:
            self._started = time.perf_counter()
        self._calls += 1
        if self._calls == self._count:
            self.rate = self._count / (time.perf_counter() - self._started)
            self._last()
