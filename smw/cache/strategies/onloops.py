"""Has the event loops of this process do the writes that belong to them; knows no thread and no function."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sqlite3
from concurrent.futures import Future
from typing import TYPE_CHECKING

from smw._kernel.loops import PerLoop
from smw.cache.strategies.journal_rows import ANY_LOOP, leave

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from smw.cache.strategies.journal import Journal
    from smw.cache.strategies.rounds import Rounds

__all__ = ["OnLoops"]

_log = logging.getLogger("smw.cache")


class OnLoops:
    """The event loops that have called, by number.

    Args:
        rounds: Do writes.
        journal: Returns what has them, if it is open.
        drain_s: How long a loop that ends waits for its writes.
    """

    def __init__(self, rounds: Rounds, journal: Callable[[], Journal | None], *, drain_s: float) -> None:
        self._rounds = rounds
        self._journal = journal
        self._drain_s = drain_s
        self._numbers = itertools.count(1)
        self._numbered: PerLoop[int] = PerLoop(self._number, self._ends)
        self._live: dict[int, asyncio.AbstractEventLoop] = {}
        self._under_way: dict[int, Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def forget(self) -> None:
        """Know none, in a forked child."""
        self._live, self._under_way = {}, {}

    def here(self) -> int:
        """Return the number of the running loop, which does its writes from now on, and what is left to any."""
        return self._numbered.get()

    def _number(self) -> int:
        number = next(self._numbers)
        self._live[number] = asyncio.get_running_loop()
        return number

    def known(self) -> list[tuple[int, asyncio.AbstractEventLoop]]:
        """Return those that have called and have not ended."""
        return list(self._live.copy().items())

    def running(self) -> list[tuple[int, asyncio.AbstractEventLoop]]:
        """Return those that run."""
        return [(number, loop) for number, loop in self.known() if loop.is_running()]

    def under_way(self) -> list[Future[None]]:
        """Return what says when those that have begun are done."""
        return [done for done in self._under_way.copy().values() if not done.done()]

    def begin(self, journal: Journal) -> None:
        """Have each do what waits for it."""
        for number, loop in self.known():
            before = self._under_way.get(number)
            if loop.is_closed():
                self._forget(number)
                journal.submit(leave(journal.token, number))
            elif loop.is_running() and (before is None or before.done()):
                self._under_way[number] = self.send(journal, number, loop)

    def _forget(self, number: int) -> asyncio.AbstractEventLoop | None:
        self._under_way.pop(number, None)
        return self._live.pop(number, None)

    def send(
        self, journal: Journal, number: int, loop: asyncio.AbstractEventLoop, tried: set[int] | None = None
    ) -> Future[None]:
        """Have an event loop do its writes; the future says when it has."""
        done: Future[None] = Future()

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and task.exception() is not None:
                _log.error("writing what was acknowledged failed; it is tried again: %r", task.exception())
            done.set_result(None)

        def begin() -> None:
            if number not in self._live:  # it ends, and does its last writes by itself
                done.set_result(None)
                return
            task = loop.create_task(self._drain(journal, (number, ANY_LOOP), tried))
            self._tasks.add(task)
            task.add_done_callback(ended)

        try:
            loop.call_soon_threadsafe(begin)
        except RuntimeError:  # it was closed just now
            done.set_result(None)
        return done

    async def _drain(self, journal: Journal, loops: Collection[int], tried: set[int] | None) -> None:
        while not journal.is_closed and await self._rounds.run_awaiting(journal, loops, tried=tried):
            pass

    def run(self, journal: Journal, loops: Collection[int], tried: set[int] | None) -> None:
        """Do the writes of some loops on one that is made for it."""
        asyncio.run(self._drain(journal, loops, tried))

    async def _ends(self, number: int) -> None:
        """Write what belongs to an event loop before it ends; the rest waits for the next one."""
        loop = self._forget(number)  # first of all: nobody begins anything there any more
        journal = self._journal()
        if journal is None or journal.is_closed:
            return
        begun = [task for task in self._tasks.copy() if task.get_loop() is loop]
        try:
            async with asyncio.timeout(self._drain_s):
                await asyncio.gather(*begun, return_exceptions=True)
                await asyncio.wrap_future(journal.submit(lambda _: None))  # what was cancelled is given back by then
                await self._drain(journal, (number, ANY_LOOP), set())
        except (TimeoutError, sqlite3.Error) as error:
            _log.warning("an event loop ends before its writes are done: %r", error)
        finally:
            journal.submit(leave(journal.token, number))

    def close(self) -> None:
        """Forget the loops, each in its own; idempotent."""
        self._numbered.close()
