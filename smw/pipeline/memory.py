"""Streams in the memory of this process: bounded, shared by name, for threads and event loops alike; the default."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING

from smw.errors import BackpressureError
from smw.pipeline.deadletter import SUFFIX, DeadLetter
from smw.pipeline.ports import Entry, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from smw._kernel.clock import Clock

__all__ = ["MemoryHub", "MemoryStream"]

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class _Queue:
    """One stream's records: those that wait, and how many exist."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: deque[Record] = deque()
        self.unsettled = 0
        self.last = 0
        self.waiters: list[_Waiter] = []

    def put(self, entries: Sequence[Entry], at: float, capacity: int, name: str) -> list[str]:
        """Append all entries or none, and wake a reader for each waiting one."""
        with self.lock:
            if self.unsettled + len(entries) > capacity:
                raise BackpressureError(
                    "SMW-P130",
                    f"the in-memory stream {name!r} is full",
                    seen=f"{self.unsettled} unsettled records",
                    fix="serve it faster, or raise pipeline setting stream_buffer_size",
                )
            positions = []
            for entry in entries:
                self.last += 1
                positions.append(str(self.last))
                self.waiting.append(Record(positions[-1], entry.value, entry.key, entry.headers, 1, at))
            self.unsettled += len(entries)
        self.wake()
        return positions

    def wake(self) -> None:
        with self.lock:
            waiters, self.waiters = self.waiters, []
        for loop, future in waiters:
            with contextlib.suppress(RuntimeError):  # that loop has closed
                loop.call_soon_threadsafe(_resolve, future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class MemoryHub:
    """The in-memory streams of one `Pipeline`.

    Args:
        clock: Stamps records and ends waits.
        capacity: Unsettled records that one stream holds, and dead letters of one stream.
    """

    def __init__(self, clock: Clock, capacity: int) -> None:
        self.clock = clock
        self.capacity = capacity
        self._queues: dict[str, _Queue] = {}
        self._lock = threading.Lock()

    def queue(self, name: str) -> _Queue:
        """Return the queue of that name."""
        with self._lock:
            return self._queues.setdefault(name, _Queue())

    def stream(self, name: str) -> MemoryStream:
        """Return a new reader."""
        return MemoryStream(self, name)


class MemoryStream:
    """One reader of an in-memory stream.

    All readers of a name share its records, as one group. What a reader holds when it closes goes back to the front.
    """

    kind = "memory"

    def __init__(self, hub: MemoryHub, name: str) -> None:
        self.name = name
        self._hub = hub
        self._queue = hub.queue(name)
        self._out: dict[str, Record] = {}
        self._noted: dict[str, int] = {}

    @property
    def lag(self) -> int | None:
        """Records not yet settled."""
        return self._queue.unsettled

    def on_revoke(self, lost: Callable[[Collection[str]], Collection[str]]) -> None:
        """Do nothing: records stay with their reader until it closes."""

    async def poll(self, max_records: int, wait_s: float) -> Sequence[Record]:
        """Return up to `max_records` records, waiting up to `wait_s` for the first."""
        await self._hub.clock.sleep(0)
        records = self._take(max_records)
        if records or wait_s <= 0:
            return records
        await self._arrival(wait_s)
        return self._take(max_records)

    def _take(self, max_records: int) -> list[Record]:
        queue = self._queue
        with queue.lock:
            records = [queue.waiting.popleft() for _ in range(min(max_records, len(queue.waiting)))]
        self._out.update((record.position, record) for record in records)
        return records

    async def _arrival(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        waiter = (loop, future)
        with self._queue.lock:
            if self._queue.waiting:
                return
            self._queue.waiters.append(waiter)
        sleeper = loop.create_task(self._hub.clock.sleep(wait_s))
        sleeper.add_done_callback(lambda _: _resolve(future))
        try:
            await future
        finally:
            sleeper.cancel()
            with self._queue.lock, contextlib.suppress(ValueError):
                self._queue.waiters.remove(waiter)

    async def settle(self, positions: Sequence[str]) -> None:
        """Forget records that this reader holds."""
        known = [position for position in positions if self._out.pop(position, None) is not None]
        if self._noted:
            for position in known:
                self._noted.pop(position, None)
        with self._queue.lock:
            self._queue.unsettled -= len(known)

    async def defer(self, position: str, attempt: int) -> None:
        """Remember the number of the attempt."""
        self._noted[position] = attempt

    async def dead(self, record: Record, letter: DeadLetter) -> None:
        """Append the letter to the stream of dead letters and settle the record."""
        if record.position in self._out:
            await self._hub.stream(self.name + SUFFIX).append([Entry(letter.to_bytes(), record.key)])
            await self.settle([record.position])

    async def append(self, entries: Sequence[Entry]) -> Sequence[str]:
        """Append all entries, or none where there is no room."""
        return self._queue.put(entries, self._hub.clock.wall(), self._hub.capacity, self.name)

    async def letters(self, limit: int) -> Sequence[DeadLetter]:
        """Return the oldest dead letters that nobody has taken."""
        queue = self._hub.queue(self.name + SUFFIX)
        with queue.lock:
            values = [record.value for record, _ in zip(queue.waiting, range(limit), strict=False)]
        return [DeadLetter.from_bytes(value) for value in values]

    async def tend(self) -> None:
        """Do nothing: readers in one process see each other."""

    async def close(self) -> None:
        """Put what this reader holds back to where it was; the next one counts its attempt as made."""
        left, self._out = self._out, {}
        for position, record in left.items():
            record.attempt = max(record.attempt, self._noted.pop(position, 1) + 1)
        if left:
            with self._queue.lock:
                together = (*left.values(), *self._queue.waiting)
                self._queue.waiting = deque(sorted(together, key=lambda record: int(record.position)))
            self._queue.wake()
