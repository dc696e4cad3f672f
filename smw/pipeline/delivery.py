"""Delivers a stream's records to a handler at least once, in order per key, with bounded retries; knows no store.

Its rules:

- A record is settled only after its handler is done with it, or after its dead letter is stored.
- Records of one key are handled one at a time in the order of the stream; keys do not wait for each other.
- A failing record is tried again after growing waits; only its own key waits with it.
- A record that is given up becomes a dead letter. Where that is switched off, delivery ends with an error.
- Records that the store has deleted too early are counted and told, never passed over in silence.
- Stopping ends the fetching at once and lets running handlers finish within a bound; what was not handled goes back.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smw._kernel.signals import BackendDown, BackendUp, RecordsLost
from smw.errors import RecordError, Unavailable
from smw.pipeline.ports import Ended, Gap, Record, Stream
from smw.pipeline.retry import Backoff, Retry
from smw.pipeline.settling import Settler
from smw.pipeline.workers import Policy, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable

    from smw._kernel.host import Host
    from smw.pipeline.handler import Handler
    from smw.pipeline.tally import Tally

__all__ = ["Delivery", "Limits"]

_log = logging.getLogger("smw.pipeline")
_FLUSH_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one delivery does at a time.

    Args:
        buffer: Records fetched and not settled.
        fetch: Records a poll.
        in_flight: Handlers that run at the same time.
        batch: Records a call, for handlers that take many.
        wait_s: How long a poll waits for the first record.
        drain_s: How long stopping waits for running handlers.
        tend_s: How often the stream is tended.
    """

    buffer: int = 10_000
    fetch: int = 500
    in_flight: int = 256
    batch: int = 1_000
    wait_s: float = 0.5
    drain_s: float = 5.0
    tend_s: float = 5.0


class Delivery:
    """One reader of one stream, from start to stop. Lives in one event loop.

    Args:
        stream: Where records come from and go back to.
        handler: What handles them.
        retry: When failed ones are tried again.
        dead_letter: Whether records that are given up become dead letters.
        host: Clock, randomness and bus.
        tally: Where to count.
        limits: How much to do at a time.
        stop_at_gap: End where records are gone that nobody has settled, instead of going on behind them.
        until_empty: End by itself once nothing waits and nothing is in work.
        done: Is told each handled record and what the handler returned.
    """

    def __init__(
        self,
        stream: Stream,
        handler: Handler,
        *,
        retry: Retry,
        dead_letter: bool,
        host: Host,
        tally: Tally,
        limits: Limits,
        stop_at_gap: bool = False,
        until_empty: bool = False,
        done: Callable[[Record, Any], None] | None = None,
    ) -> None:
        self._stream, self._host, self._tally, self._limits = stream, host, tally, limits
        self._until_empty, self._done, self._stop_at_gap = until_empty, done, stop_at_gap
        self._held: set[str] = set()
        self._room = asyncio.Event()
        self._backoff = Backoff(host.entropy)
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loops: set[asyncio.Task[None]] = set()
        self._ended = self._down = False
        self._settler = Settler(stream, host.clock, Backoff(host.entropy), self._released)
        self._workers = Workers(
            stream,
            handler,
            Policy(retry, dead_letter, limits.in_flight, limits.batch),
            host,
            tally,
            done=self._handled,
            buried=lambda position: self._released((position,)),
            failed=self._finish,
            settled=self._settler.flush,
        )
        stream.on_revoke(self._revoked)

    async def run(self) -> None:
        """Deliver until stopped, cancelled, or at the end of a stream that has one.

        Raises:
            RecordError: A record was given up and dead letters are switched off, it is unsettled; or records are gone
                and `stop_at_gap` was said.
        """
        try:
            for work in (self._poll(), self._settler.run(), self._tend()):
                self._start(work)
            await self._end
        finally:
            await self._drain()

    def stop(self) -> None:
        """End `run` gracefully; call it in the loop of `run`."""
        self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        if self._end.done():
            return
        if error is None:
            self._end.set_result(None)
        else:
            self._end.set_exception(error)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        def left(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._finish(error)

        task = asyncio.get_running_loop().create_task(work)
        self._loops.add(task)
        task.add_done_callback(left)

    async def _poll(self) -> None:
        limits, held = self._limits, self._held
        wait_s = 0.0 if self._until_empty else limits.wait_s
        while True:
            free = limits.buffer - len(held)
            if free <= 0:
                await self._wait_for_room()
                continue
            try:
                records = await self._stream.poll(min(free, limits.fetch), wait_s)
            except Ended:
                break
            except Gap as gap:
                self._missed(gap)
                continue
            except Unavailable as error:
                await self._away(error)
                continue
            self._back()
            if records:
                fresh = [record for record in records if record.position not in held]
                if len(fresh) < len(records):
                    self._workers.regained([record.position for record in records])
                held.update([record.position for record in fresh])
                self._tally.in_flight = len(held)
                self._workers.add(fresh)
            elif self._until_empty:
                if not held:
                    break
                await self._wait_for_room()
        self._ended = True
        self._released(())

    def _missed(self, gap: Gap) -> None:
        """Tell of records that are gone; where that is wanted, it ends the delivery."""
        name = self._stream.name
        self._tally.lost += gap.count
        self._host.bus.send(RecordsLost(self._tally.stream, gap.count))
        _log.error("stream %s: up to %d unsettled records were deleted and are lost: %s", name, gap.count, gap.place)
        if self._stop_at_gap:
            raise RecordError(
                "SMW-P143",
                f"the stream {name!r} stops: up to {gap.count} unsettled records were deleted before they were handled",
                seen=gap.place,
                fix="keep records longer, then move the group on, or set stream_on_gap to continue",
            )

    async def _wait_for_room(self) -> None:
        self._room.clear()
        await self._room.wait()

    async def _away(self, error: Unavailable) -> None:
        if not self._down:
            self._down = True
            kind, reason = self._stream.kind, error.seen or "unavailable"
            _log.warning("stream %s: %s does not answer (%s); trying again", self._stream.name, kind, reason)
            self._host.bus.send(BackendDown(f"pipeline.{kind}", reason))
        await self._host.clock.sleep(self._backoff.next_s())

    def _back(self) -> None:
        if self._down:
            self._down = False
            self._backoff.reset()
            _log.warning("stream %s: %s answers again", self._stream.name, self._stream.kind)
            self._host.bus.send(BackendUp(f"pipeline.{self._stream.kind}"))

    def _handled(self, record: Record, result: Any) -> None:
        if self._done is not None:
            self._done(record, result)
        self._settler.add(record.position)

    def _released(self, positions: Iterable[str]) -> None:
        self._held.difference_update(positions)
        self._tally.in_flight = len(self._held)
        self._room.set()
        if self._ended and not self._held:
            self._finish(None)

    def _revoked(self, positions: Collection[str]) -> Collection[str]:
        """Begin nothing more with records that go to another reader; returns those that were not begun."""
        dropped = self._workers.drop(positions)
        self._released(dropped)
        return dropped

    async def _tend(self) -> None:
        while True:
            try:
                await self._stream.tend()
                self._tally.lag = self._stream.lag
            except Unavailable as error:
                _log.debug("stream %s was not tended: %s", self._stream.name, error.what)
            await self._host.clock.sleep(self._limits.tend_s)

    async def _drain(self) -> None:
        """Let running handlers finish within the bound, settle what is done, end every task."""
        workers = self._workers
        workers.stopping = True
        for task in (*self._loops, *workers.parked):
            task.cancel()
        try:
            await self._bounded(workers.running, self._limits.drain_s)
            flush = asyncio.get_running_loop().create_task(self._settler.flush())
            await self._bounded({flush}, max(_FLUSH_S, self._limits.drain_s))
            if not flush.done() or flush.exception() is not None:
                flush.cancel()
                _log.warning(
                    "stream %s: the last records are handled but not settled; they will come again", self._stream.name
                )
        finally:
            await _ended({*self._loops, *workers.running, *workers.parked})

    async def _bounded(self, tasks: set[asyncio.Task[None]], seconds: float) -> None:
        """Wait until all tasks are done, or `seconds` are over."""
        if not tasks:
            return
        loop = asyncio.get_running_loop()
        all_of_them = loop.create_task(_all(set(tasks)))
        bound = loop.create_task(self._host.clock.sleep(seconds))
        try:
            await asyncio.wait({all_of_them, bound}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (all_of_them, bound):
                task.cancel()


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: before Python 3.12, `wait_for` loses a cancellation that meets an answer."""
    while tasks := {task for task in tasks if not task.done()}:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.1)
