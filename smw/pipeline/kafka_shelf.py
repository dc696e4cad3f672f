"""What the reading thread and the event loop share: records that are ready, and what became of the others.

Knows no Kafka. The thread puts records on the shelf and takes partitions away; the loop takes records and settles
them. When a partition leaves, its records go from the shelf, the loop is asked to drop those it has not begun, and
the thread can wait for the rest. What is said later about a record of a partition that has left is ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from smw.pipeline.ports import Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from smw.errors import SmwError
    from smw.pipeline.offsets import Offsets
    from smw.pipeline.ports import Record

__all__ = ["Page", "Shelf"]


class Page(NamedTuple):
    """Records of one partition, in the order of the log."""

    partition: int
    records: list[Record]
    offsets: list[int]


class _Missing(NamedTuple):
    """Records of a partition that are gone, in their place among those that are ready."""

    partition: int
    start: int | None
    gap: Gap


def _nobody(_positions: Collection[str]) -> Collection[str]:
    return ()


class Shelf:
    """Records of the partitions that a reader has, for one event loop and one thread.

    Args:
        room: Records that may lie ready before the thread has to wait.

    Attributes:
        lost: Is called in the loop with positions that leave; returns those that nobody works on.
    """

    def __init__(self, room: int) -> None:
        self.lost: Callable[[Collection[str]], Collection[str]] = _nobody
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._ready: deque[Page | _Missing] = deque()
        self._count = 0
        self._mine: dict[int, Offsets] = {}
        self._leaving: dict[int, Offsets] = {}
        self._awaited: set[str] = set()
        self._committed: dict[int, int] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._trouble: SmwError | None = None
        self._asked = self._answered = 0
        self._is_calm = False
        self._told: tuple[int, int] | None = None
        self._passed: dict[int, int] = {}
        self.taken = 0

    # --- the loop's side ----------------------------------------------------------------------------------------------

    def take(self, count: int) -> list[Record]:
        """Return up to `count` records that are ready.

        Raises:
            Gap: Some are gone.
            SmwError: There are none, and the thread is in trouble.
        """
        taken: list[Record] = []
        with self._changed:
            if self._told is not None:  # whoever asks again after a gap goes on behind it
                self._pass(*self._told)
                self._told = None
            while self._ready and len(taken) < count:
                first = self._ready[0]
                if isinstance(first, Page):
                    taken += self._part(first, count - len(taken))
                elif taken:
                    break
                else:
                    self._ready.popleft()
                    self._told = None if first.start is None else (first.partition, first.start)
                    raise first.gap
            if not taken and self._trouble is not None:
                raise self._trouble
            self.taken += len(taken)
            if taken:
                self._changed.notify_all()
        return taken

    def _pass(self, partition: int, start: int) -> None:
        if (offsets := self._mine.get(partition)) is None:
            self._passed[partition] = start
        else:
            offsets.pass_to(start)

    def _part(self, page: Page, count: int) -> list[Record]:
        self._ready.popleft()
        if len(page.records) > count:
            self._ready.appendleft(Page(page.partition, page.records[count:], page.offsets[count:]))
            page = Page(page.partition, page.records[:count], page.offsets[:count])
        self._count -= len(page.records)
        attempts = self._mine[page.partition].hand_out(page.offsets)
        if attempts is None:
            return page.records
        for record, attempt in zip(page.records, attempts, strict=True):
            record.attempt = attempt
        return [record for record in page.records if record.attempt]

    async def arrival(self, wait_s: float, now: Callable[[], float]) -> bool:
        """Wait for records, for trouble, or until everything was read and `wait_s` are over; False for the last."""
        with self._changed:
            if wait_s <= 0 or not self._is_calm:
                self._asked += 1
            asked = self._asked
        until = now() + wait_s
        while True:
            with self._changed:
                if self._ready or self._trouble is not None:
                    return True
                is_calm = self._answered >= asked
                waiter = self._waiter = self._loop.create_future()
            left_s = until - now()
            if is_calm and left_s <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s if is_calm else None):
                    await waiter

    def settle(self, positions: Iterable[str]) -> None:
        """Count records as done; those of partitions that have left are ignored."""
        mine, leaving = self._mine, self._leaving
        with self._changed:
            for position in positions:
                partition, _, offset = position.partition("-")
                offsets = mine.get(int(partition)) or leaving.get(int(partition))
                if offsets is not None:
                    offsets.settle(int(offset))
            if self._awaited:
                self._awaited.difference_update(positions)
                self._changed.notify_all()

    def has(self, position: str) -> bool:
        """Tell whether the partition that a record belongs to is here still."""
        return int(position.partition("-")[0]) in self._mine

    def attempt(self, position: str, number: int) -> bool:
        """Note which attempt at a record is the last that began; False when the record's partition has left."""
        partition, _, offset = position.partition("-")
        with self._changed:
            offsets = self._mine.get(int(partition))
            if offsets is not None:
                offsets.attempt(int(offset), number)
            return offsets is not None

    # --- the thread's side --------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        def now() -> None:
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

        with contextlib.suppress(RuntimeError):  # that loop has closed
            self._loop.call_soon_threadsafe(now)

    def begin(self, partition: int, offsets: Offsets) -> None:
        """Start a partition."""
        with self._changed:
            self._passed.pop(partition, None)
            self._mine[partition] = offsets
            self._committed[partition] = offsets.version

    def offsets(self, partition: int) -> Offsets | None:
        """Return the bookkeeping of a partition; None when it was not begun."""
        return self._mine.get(partition)

    def gap(self, partition: int, start: int, count: int) -> None:
        """Say that records of a partition are gone, which goes on at `start`."""
        with self._changed:
            self._ready.append(_Missing(partition, start, Gap(count, f"partition {partition}")))
        self._wake()

    @property
    def partitions(self) -> list[int]:
        """The partitions that were begun."""
        return list(self._mine)

    @property
    def gaps(self) -> list[int]:
        """The partitions with gaps that are not committed."""
        with self._changed:
            told = () if self._told is None else (self._told[0],)
            return [*self._passed, *told, *(one.partition for one in self._ready if isinstance(one, _Missing))]

    def put(self, pages: Sequence[Page]) -> None:
        """Make records ready; there is no trouble any more."""
        with self._changed:
            self._ready.extend(pages)
            self._count += sum(len(page.records) for page in pages)
            self._trouble = None
        self._wake()

    def wait_for_room(self, seconds: float) -> bool:
        """Wait for room for more records."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count < self._room, seconds)

    def report(self, trouble: SmwError | None) -> None:
        """Say that nothing can be read now, and why; or that it can."""
        with self._changed:
            self._trouble = trouble
            self._is_calm = self._is_calm and trouble is None
        self._wake()

    @property
    def question(self) -> int | None:
        """The number of a question whether everything was read, while it is not answered."""
        return self._asked if self._asked > self._answered and not self._count else None

    def answer(self, question: int) -> None:
        """Say that everything that was there when `question` was asked has been taken."""
        with self._changed:
            self._answered = question
            self._is_calm = True
            self._trouble = None
        self._wake()

    def leave(self, partitions: Iterable[int]) -> bool:
        """Begin to take partitions away; False when none of them was begun."""
        with self._changed:
            self._is_calm = False
            gone = {}
            for partition in partitions:
                self._forget_gap(partition)
                if partition in self._mine:
                    gone[partition] = self._mine.pop(partition)
            kept = [one for one in self._ready if isinstance(one, _Missing) or one.partition not in gone]
            self._ready = deque(kept)
            self._count = sum(len(one.records) for one in kept if isinstance(one, Page))
            self._leaving = gone
            self._awaited = {f"{p}-{offset}" for p, offsets in gone.items() for offset in offsets.outstanding()}
            held = frozenset(self._awaited)
        if held:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ask_to_drop, held)
        return bool(gone)

    def _forget_gap(self, partition: int) -> None:
        """Leave it to who has the partition next to go on behind its gap; that there is one is told all the same."""
        self._passed.pop(partition, None)
        if self._told is not None and self._told[0] == partition:
            self._told = None
        self._ready = deque(
            one._replace(start=None) if isinstance(one, _Missing) and one.partition == partition else one
            for one in self._ready
        )

    def _ask_to_drop(self, held: frozenset[str]) -> None:
        dropped = self.lost(held)
        with self._changed:
            self._awaited.difference_update(dropped)
            self._changed.notify_all()

    def wait_for_rest(self, seconds: float) -> bool:
        """Wait until the running records of partitions that leave are done."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._awaited, seconds)

    def left(self) -> dict[int, tuple[int, str]]:
        """End what `leave` began; returns what there is to commit for each partition."""
        with self._changed:
            gone, self._leaving, self._awaited = self._leaving, {}, set()
            for partition in gone:
                self._committed.pop(partition, None)
            return {partition: offsets.commit() for partition, offsets in gone.items()}

    # --- commits ----------------------------------------------------------------------------------------------------

    def due(self) -> tuple[dict[int, tuple[int, str]], dict[int, int]]:
        """Return what there is to commit for each partition, and the versions that this stands for."""
        commits: dict[int, tuple[int, str]] = {}
        versions: dict[int, int] = {}
        with self._changed:
            for partition, start in self._passed.items():
                commits[partition], versions[partition] = (start, ""), -1
            for partition, offsets in self._mine.items():
                if offsets.version != self._committed[partition]:
                    versions[partition] = offsets.version
                    commits[partition] = offsets.commit()
        return commits, versions

    def confirm(self, versions: dict[int, int]) -> None:
        """Note what has been committed."""
        with self._changed:
            for partition, version in versions.items():
                self._passed.pop(partition, None)
                if partition in self._mine:
                    self._committed[partition] = version

    def behind(self, partition: int, end: int) -> int | None:
        """Return how many records before `end` are not done; None when the partition was not begun."""
        with self._changed:
            offsets = self._mine.get(partition)
            return None if offsets is None else max(0, end - offsets.next - offsets.done_beyond)

    @property
    def unsettled(self) -> int:
        """Records that are ready or handed out."""
        with self._changed:
            return self._count + sum(offsets.waiting for offsets in self._mine.values())
