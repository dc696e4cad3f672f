"""Takes lanes and tries their records: done, again later, or dead; decides each record's fate and knows no store.

A worker is a task that takes a ready lane, works on it, and takes the next. It hires another one before it starts, so
that there are as many as handlers that wait, and a single one where none does.

A record whose worker process died twice is suspected of killing it: such records are tried one at a time, each settled
before the next one, so that a further death tells which one it was, and does not count against those that merely ran
beside it or before it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from smw._kernel.signals import RecordDead, RecordDone, RecordRetried
from smw.errors import BackpressureError, RecordError, SmwError, Unavailable
from smw.pipeline.deadletter import DeadLetter
from smw.pipeline.lanes import Condemned, Lane, Lanes
from smw.pipeline.ports import Tombstone
from smw.pipeline.retry import Backoff, Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable

    from smw._kernel.host import Host
    from smw.pipeline.handler import Handler
    from smw.pipeline.ports import Record, Stream
    from smw.pipeline.tally import Tally

__all__ = ["Policy", "Workers"]

_log = logging.getLogger("smw.pipeline")
_RUN = 32
_SUSPICIOUS = 3
_SLICE_S = 0.005


class Policy(NamedTuple):
    """What becomes of records that fail, and how many handlers run at a time."""

    retry: Retry
    dead_letter: bool
    in_flight: int
    batch: int

    @property
    def most_deaths(self) -> int:
        """So many attempts may end with the death of the worker."""
        return max(self.retry.times + 1, _SUSPICIOUS)


class Workers:
    """The tasks that handle records.

    Args:
        stream: For attempts to remember and dead letters to store.
        handler: What handles records.
        policy: What becomes of failures.
        host: Clock, randomness and bus.
        tally: Where to count.
        done: Is told each record that is handled, and the handler's result.
        buried: Is told the position of each record that the dead letters have.
        failed: Is told an error that ends the delivery.
        settled: Settles what is done.
    """

    def __init__(
        self,
        stream: Stream,
        handler: Handler,
        policy: Policy,
        host: Host,
        tally: Tally,
        *,
        done: Callable[[Record, Any], None],
        buried: Callable[[str], None],
        failed: Callable[[BaseException], None],
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        self._stream, self._handler, self._policy, self._host, self._tally = stream, handler, policy, host, tally
        self._done, self._buried, self._failed, self._settled = done, buried, failed, settled
        self._away = Backoff(host.entropy)
        self._lanes = Lanes()
        self._suspects: set[str] = set()
        self._lost: set[str] = set()
        self._alone = asyncio.Lock()
        self._starting = False
        self.stopping = False
        self.running: set[asyncio.Task[None]] = set()
        self.parked: set[asyncio.Task[None]] = set()

    def add(self, records: list[Record]) -> None:
        """Handle these records, each after those of its key that came before."""
        self._suspects.update([record.position for record in records if record.attempt >= _SUSPICIOUS])
        self._lanes.add(records)
        self._hire()

    def drop(self, positions: Collection[str]) -> list[str]:
        """Forget records that belong to another reader now; returns those that were not in work.

        One that is in work ends as it ends, but is neither tried again here nor buried.
        """
        dropped = self._lanes.drop(positions)
        self._suspects.difference_update(dropped)
        self._lost.update(positions)
        self._lost.difference_update(dropped)
        return dropped

    def regained(self, positions: Iterable[str]) -> None:
        """Treat records that came back while they were in work as our own again."""
        self._lost.difference_update(positions)

    def _start(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        def left(task: asyncio.Task[None]) -> None:
            among.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._failed(error)

        task = asyncio.get_running_loop().create_task(work)
        among.add(task)
        task.add_done_callback(left)

    def _hire(self) -> None:
        full = len(self.running) >= self._policy.in_flight
        if self._lanes.ready and not (self._starting or self.stopping or full):
            self._starting = True
            self._start(self._work(), self.running)

    async def _work(self) -> None:
        self._starting = False
        now = self._host.clock.now
        since = now()
        while not self.stopping and (lane := self._lanes.take()) is not None:
            self._hire()
            if self._handler.many and lane.is_fresh:
                await self._work_batch(lane)
            else:
                await self._work_lane(lane)
            if now() - since > _SLICE_S:
                await self._host.clock.sleep(0)
                since = now()

    async def _work_lane(self, lane: Lane) -> None:
        queue = lane.queue
        for _ in range(_RUN):
            record = queue[0]
            is_plain = record.attempt == 1 and lane.condemned is None
            if not await (self._try(lane, record) if is_plain else self._attempt(lane, record)):
                return
            queue.popleft()
            if lane.solo:
                lane.solo -= 1
            if not queue or self.stopping or (self._handler.many and not lane.solo):
                break
        self._lanes.give_back(lane)

    async def _attempt(self, lane: Lane, record: Record) -> bool:
        """Try once a record that may have a past; True when it is done with, False when its lane waits."""
        if self._lost and self._let_go(record):
            return True
        position, doomed = record.position, lane.condemned
        is_suspect = position in self._suspects
        if is_suspect and doomed is None and record.attempt > self._policy.most_deaths:
            doomed = Condemned("crashed", "its worker died", record.attempt - 1)
        if doomed is not None:
            is_done = await self._bury(lane, record, doomed)
        elif is_suspect:
            async with self._alone:
                is_done = not self.stopping and await self._try(lane, record)
                await self._acquit()
        else:
            is_done = await self._try(lane, record)
        if is_done:
            self._suspects.discard(position)
        return is_done

    async def _acquit(self) -> None:
        """Settle what is done: a suspect that was handled must not look interrupted when the next one kills."""
        while not self.stopping:
            try:
                await self._settled()
            except Unavailable:
                await self._host.clock.sleep(self._away.next_s())
            else:
                return

    async def _try(self, lane: Lane, record: Record) -> bool:
        try:
            if record.attempt > 1:
                await self._stream.defer(record.position, record.attempt)
                self._away.reset()
        except Unavailable:
            self._park(lane, self._away.next_s())
            return False
        try:
            self._finished(record, await self._handler.one(record))
        except RecordError as error:
            return await self._bury(lane, record, Condemned("refused", _told(error), record.attempt), error)
        except asyncio.CancelledError as error:
            self._raise_if_ours(error)
            return await self._again_or_bury(lane, record, error)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its failure, not ours
            return await self._again_or_bury(lane, record, error)
        return True

    def _raise_if_ours(self, error: BaseException) -> None:
        """Let a cancellation through when it ends this worker; one that a handler made is the handler's failure."""
        if self.stopping:
            raise error
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()

    def _let_go(self, record: Record) -> bool:
        """Tell whether a record is another reader's by now, and forget it then."""
        if record.position not in self._lost:
            return False
        self._lost.discard(record.position)
        self._suspects.discard(record.position)
        self._buried(record.position)
        return True

    def _finished(self, record: Record, result: Any) -> None:
        self._tally.done += 1
        if self._lost:
            self._lost.discard(record.position)
        if self._host.bus.wants(RecordDone):
            self._host.bus.send(RecordDone(self._tally.stream))
        self._done(record, result)

    async def _again_or_bury(self, lane: Lane, record: Record, error: BaseException) -> bool:
        if self._let_go(record):
            return True
        if not self._policy.retry.allows(record.attempt + 1):
            return await self._bury(lane, record, Condemned("failed", _told(error), record.attempt), error)
        self._again(lane, [record])
        return False

    def _again(self, lane: Lane, records: list[Record]) -> None:
        failures = records[0].attempt
        for record in records:
            record.attempt += 1
            self._tally.retried += 1
            self._host.bus.send(RecordRetried(self._tally.stream, record.attempt))
        self._park(lane, self._policy.retry.delay_s(failures, self._host.entropy))

    def _park(self, lane: Lane, delay_s: float) -> None:
        self._lanes.park(lane)
        self._start(self._parked(lane, delay_s), self.parked)

    async def _parked(self, lane: Lane, delay_s: float) -> None:
        await self._host.clock.sleep(delay_s)
        self._lanes.give_back(lane)
        self._hire()

    async def _bury(self, lane: Lane, record: Record, why: Condemned, cause: BaseException | None = None) -> bool:
        """Move a record to the dead letters; True once they have it, False while they cannot take it."""
        name, position = self._tally.stream, record.position
        if self._let_go(record):
            return True
        if isinstance(record.value, Tombstone) and not self._handler.takes_null:
            return self._skip(record)
        if not self._policy.dead_letter:
            raise _stop(name, position, why) from cause
        letter = DeadLetter(
            stream=name, position=position, value=record.value, reason=why.reason, error=why.error,
            attempts=why.attempts, at=self._host.clock.wall(), key=record.key, headers=record.headers,
        )  # fmt: skip
        try:
            await self._stream.dead(record, letter)
        except (Unavailable, BackpressureError) as trouble:
            what = trouble.what
            _log.error("stream %s: no dead letter for record %s yet, trying again: %s", name, position, what)
            lane.condemned = why
            self._park(lane, self._away.next_s())
            return False
        lane.condemned = None
        kind = why.error.partition(":")[0]
        _log.error("stream %s: record %s became a dead letter: %s, %s", name, position, why.reason, kind)
        self._tally.dead += 1
        self._host.bus.send(RecordDead(name, why.reason))
        self._buried(position)
        return True

    def _skip(self, record: Record) -> bool:
        """Be done with a record that has no value, for a handler that wants one."""
        if not self._tally.skipped:
            what = "the handler takes no None; such records are skipped and counted"
            _log.warning("stream %s: record %s has no value, and %s", self._tally.stream, record.position, what)
        self._tally.skipped += 1
        self._done(record, None)
        return True

    # --- handlers that take many -----------------------------------------------------------------------------------

    async def _work_batch(self, first: Lane) -> None:
        """Handle the fronts of several lanes in one call; when it fails, they are tried again one by one."""
        shares = await self._gather(first)
        records = [record for _, fronts, _ in shares for record in fronts]
        if not records:
            return
        try:
            result = await self._handler.batch([value for _, _, values in shares for value in values], records)
        except BaseException as error:
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
            if isinstance(error, asyncio.CancelledError):
                self._raise_if_ours(error)
            for lane, fronts, _ in shares:
                lane.solo = len(fronts)
                self._again(lane, fronts)
            return
        for record in records:
            self._finished(record, result)
        for lane, fronts, _ in shares:
            for _ in fronts:
                lane.queue.popleft()
            self._lanes.give_back(lane)

    async def _gather(self, lane: Lane) -> list[tuple[Lane, list[Record], list[Any]]]:
        shares: list[tuple[Lane, list[Record], list[Any]]] = []
        room = self._policy.batch
        while True:
            records, values = await self._share(lane, room)
            if records:
                shares.append((lane, records, values))
                room -= len(records)
            ready = self._lanes.ready
            if room <= 0 or not ready or not ready[0].is_fresh:
                return shares
            lane = ready.popleft()
            lane.busy = 1

    async def _share(self, lane: Lane, room: int) -> tuple[list[Record], list[Any]]:
        """Convert up to `room` records at the front of a lane; those that do not fit are given up at once."""
        records: list[Record] = []
        values: list[Any] = []
        while len(records) < min(room, len(lane.queue)):
            record = lane.queue[len(records)]
            if records and record.attempt > 1:
                break
            try:
                values.append(self._handler.convert(record.value))
            except RecordError as error:
                if records:
                    break
                if not await self._bury(lane, record, Condemned("refused", _told(error), record.attempt), error):
                    return [], []
                lane.queue.popleft()
            else:
                records.append(record)
        lane.busy = len(records)
        if not records:
            self._lanes.give_back(lane)
        return records, values


def _told(error: BaseException) -> str:
    text = error.what if isinstance(error, SmwError) else str(error)
    return f"{type(error).__name__}: {text}"


def _stop(stream: str, position: str, why: Condemned) -> RecordError:
    return RecordError(
        "SMW-P140",
        f"the stream {stream!r} stops at record {position}: {why.reason} at attempt {why.attempts}; it stays unsettled",
        seen=why.error,
        fix="mend the handler or the record, or allow dead letters: dead_letter=True",
    )
