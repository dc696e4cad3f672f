"""Does the writes of the journal: calls their functions, strikes what is done, decides what becomes of failures."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter, deque
from concurrent.futures import wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from smw._kernel.facts import Fact
from smw._kernel.signals import CacheWriteDead
from smw.cache.levels.level import run_blocking
from smw.cache.strategies.journal_rows import bury, claim, give_back, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from concurrent.futures import Future

    from smw._kernel.host import Host
    from smw.cache.strategies.arriving import Arrivals
    from smw.cache.strategies.journal import Journal
    from smw.cache.strategies.journal_rows import Row

T = TypeVar("T")

__all__ = ["AGAIN_FIRST_S", "Rounds"]

_log = logging.getLogger("smw.cache")
POISON, OUTAGE = 10, 100
"""Attempts after which a write is dead: while others of its function succeed, and while none does."""
AGAIN_FIRST_S, _AGAIN_MOST_S = 0.2, 60.0
_TOGETHER = 10
_REMEMBERED = 40_000


class Rounds:
    """Rounds of writes that are done, in a thread or on an event loop.

    Args:
        host: Clock, jitter and bus.
        arrivals: Does a write.
        names: Returns the names of the functions that are known here.
        buried: Called with the key of a write that is dead.
    """

    def __init__(
        self,
        host: Host,
        arrivals: Arrivals,
        *,
        names: Callable[[], tuple[str, ...]],
        buried: Callable[[str], None],
    ) -> None:
        self.written: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.dead: Counter[str] = Counter()
        self._host = host
        self._arrivals = arrivals
        self.names = names
        self._buried = buried
        self._again: dict[int, float] = {}
        self._first: dict[int, int] = {}
        self._struck: deque[int] = deque()
        self._returned: deque[tuple[int, int]] = deque()

    def forget(self) -> None:
        """Begin anew, in a forked child whose parent has all that waits."""
        self._again, self._first = {}, {}
        self._struck, self._returned = deque(), deque()

    def again_s(self) -> float:
        """Return after how many seconds the next write that has failed is due."""
        now = self._host.clock.now()
        return min((at - now for at in self._again.copy().values() if at > now), default=_AGAIN_MOST_S)

    def _claim(self, journal: Journal, loops: Collection[int], tried: set[int] | None) -> Any:
        now = self._host.clock.now()
        if len(self._first) > _REMEMBERED:  # mostly of writes that newer ones have replaced
            for seq in list(self._first.copy())[: _REMEMBERED // 2]:
                self._first.pop(seq, None)
            for seq in [seq for seq, at in self._again.copy().items() if at <= now]:
                self._again.pop(seq, None)
        waiting = {seq for seq, at in self._again.copy().items() if at > now} if tried is None else tried
        return journal.submit(claim(journal.token, loops, self.names(), waiting))

    def run(self, journal: Journal, loops: Collection[int], *, tried: set[int] | None = None) -> bool:
        """Do a round of writes of blocking functions; returns whether there was one.

        Args:
            journal: Has them.
            loops: Which of them.
            tried: Those that are not to be tried again, and takes those that were; None lets what has failed wait for
                its time.

        Raises:
            sqlite3.Error: The journal cannot be changed.
        """
        claimed, ended = self._claim(journal, loops, tried), set[int]()
        rows = claimed.result()
        try:
            for row in rows:
                try:
                    run_blocking(self._arrivals.bring(journal, row, "sync"))
                except BaseException as error:  # noqa: BLE001 - whatever the user's function raises
                    burying = self._failed(journal, row, error)
                    if burying is not None:
                        wait((burying,))
                        self._buried_now(row, error, burying)
                else:
                    self._done(row)
                ended.add(row.seq)
        finally:
            self._over(journal, tried, ended, claimed)
        return bool(rows)

    async def run_awaiting(self, journal: Journal, loops: Collection[int], *, tried: set[int] | None = None) -> bool:
        """Do a round of writes of coroutine functions, some at a time, as `run` does those of others."""
        claimed, ended = self._claim(journal, loops, tried), set[int]()
        free = asyncio.Semaphore(_TOGETHER)

        async def one(row: Row) -> None:
            try:
                async with free:
                    await self._arrivals.bring(journal, row, "async")
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                await self._failed_here(journal, row, error)  # the function has raised it by itself
            except Exception as error:  # noqa: BLE001 - whatever the user's function raises
                await self._failed_here(journal, row, error)
            else:
                self._done(row)
            ended.add(row.seq)

        try:
            rows = await asyncio.wrap_future(claimed)
            # None is left behind: a row that is given back while its function goes on would be begun a second time.
            for raised in await asyncio.gather(*map(one, rows), return_exceptions=True):
                if raised is not None:
                    raise raised
        finally:
            # Also where this was cancelled before it knew its rows, and where its loop is closed and it is collected.
            claimed.add_done_callback(partial(self._over, journal, tried, ended))
        return bool(rows)

    def _over(
        self, journal: Journal, tried: set[int] | None, ended: Collection[int], claimed: Future[list[Row]]
    ) -> None:
        """Give back what a round has begun and neither done nor failed, and have the journal told of the rest."""
        if claimed.exception() is None:
            seqs = [row.seq for row in claimed.result()]
            self._returned.extend((seq, 0) for seq in seqs if seq not in ended)
            if tried is not None:
                tried.update(seqs)
        self.strike(journal)

    def _done(self, row: Row) -> None:
        self.written[row.writer] += 1
        self._again.pop(row.seq, None)
        self._first.pop(row.seq, None)
        self._struck.append(row.seq)

    def strike(self, journal: Journal) -> None:
        """Strike what is done, let the rest wait; what the journal does not take now it is told in the next round."""
        struck, returned = _taken(self._struck), _taken(self._returned)
        if struck:
            self._tell(journal, settle(struck), self._struck, struck)
        if returned:
            self._tell(journal, give_back(returned), self._returned, returned)

    def _tell(self, journal: Journal, change: Callable[..., None], owed: deque[T], what: list[T]) -> None:
        def told(future: Future[None]) -> None:
            if future.exception() is not None:
                owed.extend(what)
                level = logging.DEBUG if journal.is_closed else logging.ERROR  # it was given up when closing
                _log.log(level, "the journal cannot be told what became of writes: %s", future.exception())

        journal.submit(change).add_done_callback(told)

    def _failed(self, journal: Journal, row: Row, error: BaseException) -> Future[None] | None:
        """Decide what becomes of a write that has failed; gives what says when it is dead, if it is to be."""
        self.failed[row.writer] += 1
        attempts, reason = row.attempts + 1, type(error).__name__
        succeeded = self.written[row.writer] > self._first.setdefault(row.seq, self.written[row.writer])
        if attempts >= (POISON if succeeded else OUTAGE):
            self._again.pop(row.seq, None)
            self._first.pop(row.seq, None)
            return journal.submit(bury(row.seq, reason, self._host.clock.wall()))
        if row.attempts == 0:
            _log.warning("a write of %s failed (%s) and is tried again: %s", row.writer, reason, row.key)
        _log.debug("attempt %d of write %d failed", attempts, row.seq, exc_info=error)
        pause_s = min(_AGAIN_MOST_S, AGAIN_FIRST_S * 2 ** min(attempts - 1, 20))
        self._again[row.seq] = self._host.clock.now() + pause_s * (1 - 0.2 * self._host.entropy.random())
        self._tell(journal, give_back([(row.seq, 1)]), self._returned, [(row.seq, 1)])
        return None

    async def _failed_here(self, journal: Journal, row: Row, error: BaseException) -> None:
        """Decide as `_failed` does; the event loop goes on while a write is moved to the dead ones."""
        burying = self._failed(journal, row, error)
        if burying is not None:
            try:
                with suppress(sqlite3.Error):
                    await asyncio.wrap_future(burying)
            finally:  # readers must be told also where this is cancelled meanwhile
                burying.add_done_callback(partial(self._buried_now, row, error))

    def _buried_now(self, row: Row, error: BaseException, burying: Future[None]) -> None:
        reason, failure = type(error).__name__, burying.exception()
        if failure is not None:
            _log.error("a write of %s cannot be moved to the dead ones: %s", row.writer, failure)
            self._returned.append((row.seq, 0))
            return
        self.dead[row.writer] += 1
        _log.error(
            "a write of %s is dead after %d attempts (%s); its arguments are kept in the journal: number %d, key %s",
            row.writer,
            row.attempts + 1,
            reason,
            row.seq,
            row.key,
        )
        self._buried(row.key)
        self._host.bus.send(CacheWriteDead(row.writer, reason))

    def facts(self) -> Iterator[Fact]:
        """Yield what has become of writes."""
        for counted, metric, about in (
            (self.written, "smw_cache_writes_written_total", "Acknowledged writes that their source has."),
            (self.failed, "smw_cache_writes_failed_total", "Attempts at an acknowledged write that failed."),
            (self.dead, "smw_cache_writes_dead_total", "Acknowledged writes given up and kept aside."),
        ):
            for name, count in counted.copy().items():
                yield Fact(metric, "counter", about, (("fn", name),), count)


def _taken(owed: deque[T]) -> list[T]:
    """Return what is in there, and empty it; safe while others do, and while they add."""
    taken: list[T] = []
    with suppress(IndexError):
        while True:
            taken.append(owed.popleft())
    return taken
