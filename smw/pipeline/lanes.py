"""One queue per live key, and which of them may go next; pure bookkeeping without tasks, time or I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

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
        busy: So many at the front are in work.
        solo: So many at the front failed together and are handled one by one.
        condemned: Why the first one goes to the dead letters; None while it may be tried.
    """

    __slots__ = ("busy", "condemned", "key", "queue", "solo")

    def __init__(self, key: str | None, first: Record) -> None:
        self.key = key
        self.queue: deque[Record] = deque((first,))
        self.busy = 0
        self.solo = 0
        self.condemned: Condemned | None = None

    def drop(self, positions: Collection[str]) -> list[str]:
        """Forget waiting records at these positions; returns which those were."""
        queue, busy = self.queue, self.busy
        going = {n for n, record in enumerate(queue) if n >= busy and record.position in positions}
        if not going:
            return []
        if 0 in going:
            self.condemned = None
        self.solo -= sum(n < self.solo for n in going)
        dropped = [queue[n].position for n in going]
        kept = [record for n, record in enumerate(queue) if n not in going]
        queue.clear()
        queue.extend(kept)
        return dropped

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
        self._parked: set[Lane] = set()
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
        if not self.ready:
            return None
        lane = self.ready.popleft()
        lane.busy = 1
        return lane

    def park(self, lane: Lane) -> None:
        """Note that nobody works on a lane that is out: it waits for its next attempt."""
        lane.busy = 0
        self._parked.add(lane)

    def drop(self, positions: Collection[str]) -> list[str]:
        """Forget the records at these positions that nobody works on; returns which those were."""
        dropped: list[str] = []
        for lane in {*self._by_key.values(), *self.ready, *self._parked}:
            dropped += lane.drop(positions)
        for lane in self.ready:
            if not lane.queue:
                self._forget(lane)
        self.ready = deque(lane for lane in self.ready if lane.queue)
        return dropped

    def _forget(self, lane: Lane) -> None:
        if lane.key is not None:
            del self._by_key[lane.key]

    def give_back(self, lane: Lane) -> None:
        """Take back a lane that was out: ready again, or forgotten when it is empty."""
        lane.busy = 0
        self._parked.discard(lane)
        if lane.queue:
            self.ready.append(lane)
        else:
            self._forget(lane)
