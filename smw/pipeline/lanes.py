"""One queue per live key, and which of them may go next; pure bookkeeping without tasks, time or I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smw.pipeline.ports import Record

__all__ = ["Condemned", "Lane", "Lanes"]


class Condemned(NamedTuple):
    """Why a record goes to the dead letters."""

    reason: str
    error: str
    attempts: int


class Lane:
    """The records of one key that wait, oldest first; the first one is in work while a worker has the lane.

    Attributes:
        queue: The records.
        solo: So many at the front failed together and are handled one by one.
        condemned: Why the first one goes to the dead letters; None while it may be tried.
    """

    __slots__ = ("condemned", "key", "queue", "solo")

    def __init__(self, key: str | None, first: Record) -> None:
        self.key = key
        self.queue: deque[Record] = deque((first,))
        self.solo = 0
        self.condemned: Condemned | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether the first record may be handled together with others."""
        return not self.solo and self.condemned is None and self.queue[0].attempt == 1


class Lanes:
    """All lanes.

    A lane is ready (waits for a worker), or out (a worker has it, or it waits for a retry). A record without a key
    has a lane of its own.
    """

    def __init__(self) -> None:
        self._by_key: dict[str, Lane] = {}
        self.ready: deque[Lane] = deque()

    def add(self, records: Iterable[Record]) -> None:
        """Put records behind those of the same key."""
        by_key, ready = self._by_key, self.ready
        for record in records:
            key = record.key
            if key is None:
                ready.append(Lane(None, record))
            elif (lane := by_key.get(key)) is not None:
                lane.queue.append(record)
            else:
                lane = by_key[key] = Lane(key, record)
                ready.append(lane)

    def take(self) -> Lane | None:
        """Hand out the lane that has been ready for longest."""
        return self.ready.popleft() if self.ready else None

    def give_back(self, lane: Lane) -> None:
        """Take back a lane that was out: ready again, or forgotten when it is empty."""
        if lane.queue:
            self.ready.append(lane)
        elif lane.key is not None:
            del self._by_key[lane.key]
