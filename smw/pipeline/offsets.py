"""Which offset of a partition may be committed, and what a successor must know besides it; pure bookkeeping.

A log has one number to remember a reader by: everything before it is done. Handlers finish in another order, so the
number waits for the slowest; what is done beyond it, how far records were handed out, and which attempts began goes
into the note that a commit may carry. A successor that reads the note repeats nothing that was done and counts on.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Offsets"]

MOST_DONE = 1_000_000
NOTE_BYTES = 3_500  # a broker refuses notes of more than 4,096 bytes unless it is told otherwise


class Offsets:
    """The records of one partition that a reader has handed out.

    Args:
        start: The first offset that is not known to be done.
        note: What the reader before left with its commit.

    Attributes:
        next: The offset to commit: everything before it is done.
        version: Grows whenever there is something new to commit.
    """

    __slots__ = ("_done", "_end", "_known", "_out", "_past", "_seen", "_tries", "next", "version")

    def __init__(self, start: int, note: str = "") -> None:
        self.next = start
        self.version = 0
        self._out: deque[int] = deque()
        self._done: set[int] = set()
        self._tries: dict[int, int] = {}
        self._past = self._seen = self._end = start
        self._known: set[int] = set()
        if note:
            self._read(note)

    def _read(self, note: str) -> None:
        try:
            told: Any = json.loads(note)
            seen = self.next + int(told.get("seen", 0))
            ranges = [(int(first), int(count)) for first, count in told.get("done", ())]
            if sum(count for _, count in ranges) > MOST_DONE:
                return
            known = {self.next + first + n for first, count in ranges for n in range(count)}
            tries = {self.next + int(offset): int(attempt) for offset, attempt in told.get("tries", {}).items()}
        except (ValueError, TypeError, AttributeError):
            return  # somebody else's note
        self._past = self._seen = seen
        self._known, self._tries = known, tries

    @property
    def waiting(self) -> int:
        """Records that were handed out and are not done."""
        return len(self._out) - len(self._done)

    @property
    def done_beyond(self) -> int:
        """Records after `next` that are done."""
        return len(self._done) + len(self._known)

    def expect(self, end: int) -> bool:
        """Note that records before `end` are about to be handed out; False when that was noted before."""
        if end <= self._seen:
            return False
        self._seen = end
        self.version += 1
        return True

    def hand_out(self, offsets: Sequence[int]) -> list[int] | None:
        """Count records as handed out, in the order of the log.

        Returns:
            For each the number of its next attempt, 0 where it is done already; None: 1 for all of them.
        """
        self._end = max(self._end, offsets[-1] + 1)
        self._seen = max(self._seen, self._end)
        self.version += 1
        if not self._known and not self._tries and offsets[0] >= self._past:
            self._out.extend(offsets)
            return None
        attempts = []
        for offset in offsets:
            if offset < self.next:
                attempts.append(0)  # the reader before has settled it since this one looked for its place
            elif offset in self._known:
                self._known.discard(offset)
                self._out.append(offset)
                self._done.add(offset)
                attempts.append(0)
            else:
                self._out.append(offset)
                attempts.append(self._tries.get(offset, 1 if offset < self._past else 0) + 1)
        return attempts

    def settle(self, offset: int) -> None:
        """Count a record as done; one that is not out (any more) is ignored."""
        if self._out and self._out[0] <= offset < self._end:
            self._done.add(offset)
            self.version += 1

    def attempt(self, offset: int, number: int) -> None:
        """Remember that attempt `number` at a record is about to begin."""
        self._tries[offset] = number
        self.version += 1

    def pass_to(self, start: int) -> None:
        """Go on at `start`: what was between the last record that was handed out and this one is gone."""
        self._end = max(self._end, start)
        self._seen = max(self._seen, start)
        self.version += 1

    def known_before(self, offset: int) -> int:
        """Return how many records before `offset` the reader before has done out of order."""
        return sum(known < offset for known in self._known)

    def outstanding(self) -> list[int]:
        """Return what was handed out and is not done."""
        return [offset for offset in self._out if offset not in self._done]

    def commit(self) -> tuple[int, str]:
        """Return the offset to commit, and the note for a successor."""
        out, done, tries = self._out, self._done, self._tries
        while out and out[0] in done:
            offset = out.popleft()
            done.discard(offset)
            if tries:
                tries.pop(offset, None)
        self.next = out[0] if out else max(self.next, self._end)
        if self._known:
            self._known = {offset for offset in self._known if offset >= self.next}
        return self.next, self._note()

    def _note(self) -> str:
        told: dict[str, Any] = {}
        if self._seen > self.next:
            told["seen"] = self._seen - self.next
        if self._tries:
            # Few records have a past, unless a worker died with many in work: then the worst ones matter most.
            worst = sorted(self._tries.items(), key=lambda item: -item[1])[:100]
            told["tries"] = {str(offset - self.next): number for offset, number in worst}
        ahead = self._done | self._known
        if ahead:
            room = NOTE_BYTES - len(json.dumps(told)) - 20
            told["done"] = _within(_ranges(offset - self.next for offset in sorted(ahead)), room)
        return json.dumps(told, separators=(",", ":")) if told else ""


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][0] + ranges[-1][1]:
            ranges[-1][1] += 1
        else:
            ranges.append([number, 1])
    return ranges


def _within(ranges: list[list[int]], room: int) -> list[list[int]]:
    """Return the first ranges that fit; what does not is done again after a crash, which at-least-once allows."""
    for count, pair in enumerate(ranges):
        room -= len(f"[{pair[0]},{pair[1]}],")
        if room < 0:
            return ranges[:count]
    return ranges
