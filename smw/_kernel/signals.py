"""Small frozen events and the bus that carries them, so that the parts can be watched without importing each other."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "AccessDenied",
    "AccessShadowed",
    "BackendDown",
    "BackendUp",
    "BatchDone",
    "Bus",
    "CacheStale",
    "CacheTampered",
    "CacheUncached",
    "CacheWarmed",
    "CacheWarming",
    "CacheWriteDead",
    "RecordDead",
    "RecordDone",
    "RecordRetried",
    "RecordsLost",
    "RequestBlocked",
    "Signal",
    "TrailFailed",
]

_log = logging.getLogger("smw.signals")


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that happened in one part and may interest another."""


@dataclass(frozen=True, slots=True)
class CacheStale(Signal):
    """An expired result stood in for a load; `reason` is the type of its error, or ``timeout`` if it was slow."""

    fn: str
    reason: str


@dataclass(frozen=True, slots=True)
class CacheTampered(Signal):
    """A stored entry was changed, or moved from another key; `reason` is ``seal`` or ``checksum``."""

    level: str
    reason: str


@dataclass(frozen=True, slots=True)
class CacheUncached(Signal):
    """A call or its result could not be cached; `reason` is a short constant."""

    fn: str
    reason: str


@dataclass(frozen=True, slots=True)
class CacheWarming(Signal):
    """A process that starts reads what the fleet asks for most, and is not ready before it has."""


@dataclass(frozen=True, slots=True)
class CacheWarmed(Signal):
    """That has ended; `reason` is ``deadline`` or ``away`` where it ended early, else empty."""

    keys: int
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class CacheWriteDead(Signal):
    """An acknowledged write failed too often and is kept aside; `reason` is the name of the error."""

    fn: str
    reason: str


@dataclass(frozen=True, slots=True)
class BackendDown(Signal):
    """The breaker of a backend opened."""

    backend: str
    reason: str


@dataclass(frozen=True, slots=True)
class BackendUp(Signal):
    """The breaker of a backend closed again."""

    backend: str


@dataclass(frozen=True, slots=True)
class AccessDenied(Signal):
    """A compliance control refused a call."""

    fn: str
    control: str
    clause: str


@dataclass(frozen=True, slots=True)
class AccessShadowed(Signal):
    """A compliance control would have refused a call, but only watches."""

    fn: str
    control: str
    clause: str


@dataclass(frozen=True, slots=True)
class TrailFailed(Signal):
    """The audit log could not take a record."""

    reason: str


@dataclass(frozen=True, slots=True)
class RequestBlocked(Signal):
    """A web policy answered instead of the application."""

    policy: str
    reason: str


@dataclass(frozen=True, slots=True)
class RecordDone(Signal):
    """A stream record was handled and settled."""

    stream: str


@dataclass(frozen=True, slots=True)
class RecordRetried(Signal):
    """A stream record failed and will be tried again."""

    stream: str
    attempt: int


@dataclass(frozen=True, slots=True)
class RecordDead(Signal):
    """A stream record was moved to the dead letters."""

    stream: str
    reason: str


@dataclass(frozen=True, slots=True)
class RecordsLost(Signal):
    """Records of a stream were deleted before anybody had settled them."""

    stream: str
    count: int


@dataclass(frozen=True, slots=True)
class BatchDone(Signal):
    """A batch job ended."""

    name: str
    rows: int


S = TypeVar("S", bound=Signal)


class Bus:
    """Delivers each signal, in the sender's thread, to whoever subscribed to its type.

    A subscriber that raises is logged and never reaches the sender.
    """

    def __init__(self) -> None:
        self._subscribers: dict[type[Signal], tuple[Callable[[Any], None], ...]] = {}

    def subscribe(self, kind: type[S], receive: Callable[[S], None]) -> Callable[[], None]:
        """Call `receive` for every signal of exactly type `kind`; returns the function that ends it."""
        self._subscribers[kind] = (*self._subscribers.get(kind, ()), receive)

        def unsubscribe() -> None:
            left = tuple(other for other in self._subscribers.get(kind, ()) if other is not receive)
            self._subscribers[kind] = left

        return unsubscribe

    def wants(self, kind: type[Signal]) -> bool:
        """Tell whether anybody listens, so that a sender can skip building the signal."""
        return bool(self._subscribers.get(kind))

    def send(self, signal: Signal) -> None:
        """Deliver `signal`; never raises."""
        for receive in self._subscribers.get(type(signal), ()):
            try:
                receive(signal)
            except Exception:  # noqa: BLE001 - a watcher must never reach what it watches
                _log.exception("a subscriber of %s failed", type(signal).__name__)
