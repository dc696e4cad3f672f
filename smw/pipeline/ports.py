"""What a stream of records must offer to the delivery core; knows no store and decides nothing about records."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from smw.pipeline.deadletter import DeadLetter

__all__ = ["NO_HEADERS", "TOMBSTONE", "Ended", "Entry", "Gap", "Record", "Stream", "Tombstone"]

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def _no_headers() -> Mapping[str, str]:
    return NO_HEADERS


class Ended(Exception):
    """A stream that has an end has reached it; what was handed out may still be unsettled."""


class Gap(Exception):
    """Records were deleted before anybody had settled them; the stream goes on behind them.

    Args:
        count: How many, at most.
        place: Where in the stream, for people.
    """

    def __init__(self, count: int, place: str) -> None:
        super().__init__(count, place)
        self.count = count
        self.place = place


class Tombstone(bytes):
    """The value of a record that has none, which in a log says that its key is deleted; as JSON it is a null."""

    __slots__ = ()


TOMBSTONE = Tombstone(b"null")


@dataclass(slots=True)
class Record:
    """One record as a stream hands it out.

    Args:
        position: Its place in the stream, unique there; what is settled.
        value: The bytes that were appended (streams over Python objects hand out the object itself).
        key: Records of one key are handled in order, one at a time; None orders nothing.
        headers: What travels beside the value, such as ``traceparent``.
        attempt: Number of the next attempt to handle it, 1 for a record that nobody tried.
        at: When it was appended, seconds since the epoch.
    """

    position: str
    value: Any
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=_no_headers)
    attempt: int = 1
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One record to append."""

    value: bytes
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=_no_headers)


@runtime_checkable
class Stream(Protocol):
    """One reader's view of a stream, within a group of readers that share its records.

    Every method that talks to a store raises `errors.Unavailable` when the store does not answer; the caller tries
    again later. Nothing is lost by that: a record stays with its reader until it is settled, moved to the dead
    letters, or handed to another reader.
    """

    name: str
    kind: str

    @property
    def lag(self) -> int | None:
        """Records not yet settled, as last measured; None where unknown."""
        ...

    def on_revoke(self, lost: Callable[[Collection[str]], Collection[str]]) -> None:
        """Have `lost` called, in the event loop, with positions that this reader holds and must give to another one.

        It returns those that nobody works on. The reader waits for the others within a bound; what is said about them
        later counts for nothing. A stream whose records stay with their reader never calls it.
        """
        ...

    async def poll(self, max_records: int, wait_s: float) -> Sequence[Record]:
        """Return up to `max_records` records, those left behind by others first; waits up to `wait_s` for the first.

        It lets the event loop run at least once, so that handlers get their turn between two polls.

        Raises:
            Ended: There will never be another one.
            Gap: Records are gone that nobody has settled; the next call goes on.
        """
        ...

    async def settle(self, positions: Sequence[str]) -> None:
        """Mark records as handled: nobody gets them again. Settling twice is no error."""
        ...

    async def defer(self, position: str, attempt: int) -> None:
        """Remember, beyond this reader's life, that attempt number `attempt` is about to start."""
        ...

    async def dead(self, record: Record, letter: DeadLetter) -> None:
        """Store `letter` among the dead letters and settle the record, both or neither.

        Raises:
            Unavailable: The dead letters cannot be stored now; the record is unsettled.
            BackpressureError: Their place is full; the record is unsettled.
        """
        ...

    async def append(self, entries: Sequence[Entry]) -> Sequence[str]:
        """Append records and return their positions once the store has them.

        Raises:
            BackpressureError: There is no room now; nothing was appended.
        """
        ...

    async def letters(self, limit: int) -> Sequence[DeadLetter]:
        """Return the oldest dead letters of this stream, up to `limit`."""
        ...

    async def tend(self) -> None:
        """Do what must be done every few seconds: show that this reader lives, measure the lag."""
        ...

    async def close(self) -> None:
        """Hand back what is unsettled, so that other readers get it at once, and leave; never raises."""
        ...
