"""Finishes what waits when a cache closes, and for how long; knows neither what a write is nor where rows are."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING

from smw._kernel.bridge import on_asyncio
from smw.cache.strategies.journal_rows import ANY_LOOP, NO_LOOP, leave, waits
from smw.cache.strategies.rounds import AGAIN_FIRST_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from smw._kernel.clock import Clock
    from smw.cache.strategies.journal import Journal
    from smw.cache.strategies.onloops import OnLoops
    from smw.cache.strategies.rounds import Rounds

__all__ = ["Closing", "Patience"]

_log = logging.getLogger("smw.cache")


class Patience:
    """How long all of closing may take: by the clock, and by what was waited for, where that stands still.

    Args:
        clock: Tells.
        most_s: Longest.
    """

    def __init__(self, clock: Clock, most_s: float) -> None:
        self._clock = clock
        self._until = clock.now() + most_s
        self._left_s = most_s

    def left_s(self) -> float:
        """Return what is left of it."""
        return max(0.0, min(self._left_s, self._until - self._clock.now()))

    def wait(self, *futures: Future[None], most_s: float | None = None) -> bool:
        """Wait for all of `futures`; returns whether they are done."""
        least_s = self.left_s() if most_s is None else min(most_s, self.left_s())
        if not wait(futures, timeout=least_s).not_done:
            return True
        self._left_s -= least_s
        return False

    def join(self, thread: threading.Thread) -> None:
        """Wait for a thread."""
        most_s = self.left_s()
        thread.join(most_s)
        if thread.is_alive():
            self._left_s -= most_s

    def pause(self, seconds: float) -> None:
        """Wait for nothing."""
        least_s = min(seconds, self.left_s())
        threading.Event().wait(least_s)
        self._left_s -= least_s


class Closing:
    """The last rounds of a cache: everything at once, then what has failed again, each when it is due.

    Args:
        rounds: Do writes.
        loops: Do those of coroutine functions.
        journal: Has them.
        patience: How long.
    """

    def __init__(self, rounds: Rounds, loops: OnLoops, journal: Journal, patience: Patience) -> None:
        self._rounds = rounds
        self._loops = loops
        self._journal = journal
        self._patience = patience

    def finish(self) -> None:
        """Have done what this process can do, each where it belongs; blocking functions in a thread that may be left.

        Raises:
            sqlite3.Error: The journal cannot be changed.
        """
        places, loops = self._places()
        begun: dict[int, Future[None]] = {}
        while self._has_any(loops):
            for number, begin in places.items():
                before = begun.get(number)
                if before is None or before.done():
                    begun[number] = begin(set() if before is None else None)
            self._patience.wait(*begun.values(), most_s=AGAIN_FIRST_S)
            if not self._patience.left_s() or not self._has_any(loops):
                return
            if all(done.done() for done in begun.values()):
                self._patience.pause(min(AGAIN_FIRST_S, self._rounds.again_s()))

    def _places(self) -> tuple[dict[int, Callable[[set[int] | None], Future[None]]], list[int]]:
        """Return what begins a round where writes can be done, and of which loops those are."""
        here = asyncio.get_running_loop() if on_asyncio() else None
        places: dict[int, Callable[[set[int] | None], Future[None]]] = {NO_LOOP: self._in_thread}
        for number, loop in self._loops.known():
            if loop.is_running() and loop is not here:
                places[number] = partial(self._loops.send, self._journal, number, loop)
            elif loop is not here:
                self._journal.submit(leave(self._journal.token, number))
        if len(places) == 1 and here is None:  # no loop goes on that would do what others have left
            places[ANY_LOOP] = self._on_new_loop
        return places, [*places] if len(places) == 1 else [*places, ANY_LOOP]

    def _has_any(self, loops: list[int]) -> bool:
        """Tell whether any waits; once what was submitted before is done, and where that takes too long, it may."""
        left = self._journal.submit(waits(self._journal.token, loops, self._rounds.names()))
        settled: Future[None] = Future()
        left.add_done_callback(lambda _: settled.set_result(None))
        return not self._patience.wait(settled) or left.result()

    def _in_thread(self, tried: set[int] | None) -> Future[None]:
        def rounds() -> None:
            while self._rounds.run(self._journal, (NO_LOOP,), tried=tried):
                pass

        return _begun(rounds)

    def _on_new_loop(self, tried: set[int] | None) -> Future[None]:
        return _begun(lambda: self._loops.run(self._journal, (ANY_LOOP,), tried))


def _begun(work: Callable[[], None]) -> Future[None]:
    """Return what says when `work` is done, or has failed; in a thread where one can be had."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except sqlite3.Error as error:
            _log.debug("the last round ended: %s", error)
        finally:
            done.set_result(None)

    try:
        threading.Thread(target=run, name="smw-cache-writes", daemon=True).start()
    except RuntimeError:  # the interpreter ends
        run()
    return done
