"""Brings acknowledged writes to their source in the background, and shows readers what is under way; knows no store."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.bridge import in_thread, on_asyncio
from smw._kernel.facts import Fact
from smw._kernel.process import ForkLock, after_fork
from smw.cache.coherence.dropping import drop_soon
from smw.cache.functions.readers import Scopes
from smw.cache.strategies.arriving import ARRIVING, Arrivals
from smw.cache.strategies.buffered import finish_at_exit
from smw.cache.strategies.closing import Closing, Patience
from smw.cache.strategies.drainer import Drainer
from smw.cache.strategies.journal_rows import ANY_LOOP, BATCH, NO_LOOP, adopt, put
from smw.cache.strategies.late import leave_behind, open_journal, tell_gone, tell_left
from smw.cache.strategies.letters import Letters
from smw.cache.strategies.onlookers import only_looks
from smw.cache.strategies.onloops import OnLoops
from smw.cache.strategies.outbox import Outbox
from smw.cache.strategies.rounds import AGAIN_FIRST_S, Rounds
from smw.cache.values.codec import CorruptError
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from smw._kernel.call import Call, Mode
    from smw._kernel.chain import Proceed
    from smw.cache.functions.function import CachedFunction
    from smw.cache.levels.engine import Engine, Place
    from smw.cache.strategies.journal import Journal
    from smw.cache.strategies.writing import Writes
    from smw.cache.values.envelope import Envelope

__all__ = ["MOST", "WriteBehind"]

_log = logging.getLogger("smw.cache")
MOST = 10_000
"""How many writes may wait; beyond it a write goes straight to its source."""
_EVERY_S = 1.0
_LOOK_FIRST_S, _LOOK_MOST_S, _LOOK_S = 0.002, 0.1, 2 * _EVERY_S
"""How often it is looked whether a write is done that waits, and for how long: another process may have to do it."""
_HELD_S = 0.1
"""For how long at most where that holds an event loop, which may be the one that has to do it."""
_CLOSE_S = 1.0
"""How long the journal may take to close when closing has taken as long as it may."""
_UNKNOWN = (
    "%d acknowledged writes of a process that ended are of %s, which this process has not imported: they wait for one "
    "that has, and later writes of their keys wait behind them; if it was renamed, keep a function of the old name"
)
_BUFFERED = (
    "writes of %s are buffered: they are acknowledged from memory, and those that have not reached their source are "
    "lost if this process is killed; with CACHE_STATE_DIR (cache setting state_dir) they survive it"
)


class WriteBehind:
    """The writes of one cache that are acknowledged and not done.

    Args:
        engine: The levels.
        envelope: How bytes are kept.
        folder: Where acknowledged writes survive; None keeps them in memory.
        drain_s: How long closing waits for them.
        allow_pickle: As for cached values.
        writers: The functions that are known in this process, by name.
        names: Returns their names.
        is_off: Take only what must not overtake an older one of its key.
    """

    def __init__(
        self,
        engine: Engine,
        envelope: Envelope,
        *,
        folder: Path | None,
        drain_s: float,
        allow_pickle: bool,
        writers: Mapping[str, Writes],
        names: Callable[[], tuple[str, ...]],
        is_off: bool = False,
    ) -> None:
        self.letters = Letters(envelope, engine.host.clock, allow_pickle=allow_pickle)
        self._engine, self._host = engine, engine.host
        self._folder, self._drain_s = folder, drain_s
        self._names = names
        self._most = 0 if is_off else MOST
        arrivals = Arrivals(engine, self.letters, writers, self._dropped)
        self._rounds = Rounds(engine.host, arrivals, names=names, buried=self._dropped)
        self.outbox = Outbox(engine, self._opened)
        self._lock = ForkLock()
        self._loops = OnLoops(self._rounds, lambda: self._journal, drain_s=drain_s)
        self._journal: Journal | None = None
        self._thread: threading.Thread | None = None
        self._drainer = Drainer(self)
        self._is_closed = False
        self._accepted = 0
        self._said: set[str] = set()
        after_fork(self._forked)

    def _forked(self) -> None:
        self._journal, self._thread, self._drainer = None, None, Drainer(self)
        self._accepted = 0
        self._loops.forget()
        self._rounds.forget()
        self.outbox.forget()

    def _dropped(self, *keys: str) -> None:
        drop_soon(self._engine, Scopes((), keys))

    def begin(self) -> None:
        """Have what dead processes of the folder have left taken over from now on; opens the journal in the background.

        An event loop that this is called in does the writes of coroutine functions.
        """
        if self._folder is None or self._is_closed or only_looks():
            return
        if on_asyncio():
            self._loops.here()
        self._start()

    def open(self) -> Journal:
        """Return the journal, and have what it holds of dead processes written.

        Raises:
            ConfigError: Its folder cannot be used.
        """
        journal = self._journal
        if journal is not None:
            return journal
        with self._lock:
            if self._journal is None:
                self._journal = open_journal(self._folder, self._host)
                self._drainer.opened.append(self._journal)
                if self._folder is not None:
                    self._start()
            return self._journal

    async def _opened(self, mode: Mode) -> Journal | None:
        """Return the journal if it is on disk, as `open` does; an event loop goes on meanwhile."""
        if self._folder is None:
            return None
        if self._journal is None and mode == "async" and on_asyncio():
            return await in_thread(self.open)
        return self.open()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._is_closed:
                with suppress(RuntimeError):  # the interpreter ends
                    self._thread = self._drainer.start()

    async def accept(self, writer: Writes, key: str, arguments: bytes, value: bytes, mode: Mode) -> bool:
        """Take a write; when this returns it is acknowledged.

        Returns:
            False where it must go to its source at once: too many wait, or the cache is closed and no older one waits.

        Raises:
            ConfigError: The journal's folder cannot be used.
            sqlite3.Error: It could not be made durable.
        """
        name = writer.target.name
        if not self._is_closed and await self._opened(mode) is None:
            self.open()
            finish_at_exit(self)
            if self._most and name not in self._said:
                self._said.add(name)
                _log.warning(_BUFFERED, name)
        row = {
            "key": key,
            "writer": name,
            "loop": NO_LOOP if mode == "sync" else ANY_LOOP if self._is_closed else self._loops.here(),
            "arguments": arguments,
            "value": value,
            "made": self._host.clock.wall(),
        }
        future = self._submitted(row)
        if future is None:
            return await self._left_to_the_next(row, mode)
        future.add_done_callback(partial(self._taken, writer))  # also where the caller stops waiting for it
        return (future.result() if mode == "sync" else await asyncio.wrap_future(future)) is not None

    def _taken(self, writer: Writes, future: Future[int | None]) -> None:
        """Have a write done that is in the journal from now on."""
        if future.exception() is not None or future.result() is None:
            return
        self._accepted += 1
        self._drainer.owe(self, writer)
        self._start()
        if self._accepted % BATCH == 0:
            self._drainer.wake.set()

    def _submitted(self, row: dict[str, Any]) -> Future[int | None] | None:
        """Return what adds a row to the journal, or None where that is closed; while it closes, only to older ones."""
        with self._lock:
            journal = self._journal
            if journal is None or journal.is_closed:
                return None
            return journal.submit(put(row | {"owner": journal.token}, most=0 if self._is_closed else self._most))

    async def _left_to_the_next(self, row: dict[str, Any], mode: Mode) -> bool:
        """Put a write behind the older ones of its key that closing has left: done at once, they would overtake it."""
        if self._folder is None:
            return False
        leave = partial(leave_behind, self._folder, self._host, row)
        return await in_thread(leave) if mode == "async" else leave()

    def or_load(self, function: CachedFunction, place: Place, call: Call, proceed: Proceed) -> Proceed:
        """Return `proceed`, which first looks for a value that is on its way to the source."""

        async def load() -> Any:
            if call.mode == "async" and on_asyncio() and (self._folder is not None or self._journal is not None):
                self._loops.here()  # writes of dead processes, or of loops that have ended, may wait for one
            key = place.scopes[0]
            blob = await self.looked(key, call.mode)
            if blob is not None:
                try:
                    return self.letters.opened_value(function, key, blob)
                except CorruptError:
                    _log.error("the acknowledged value of %s cannot be opened, so an older one may be read", key)
            return await proceed()

        return load

    async def looked(self, key: str, mode: Mode) -> bytes | None:
        """Return the value that is on its way to the source, or None; an event loop goes on meanwhile."""
        try:
            journal = self._journal
            if journal is None:
                journal = None if self._is_closed else await self._opened(mode)
            return None if journal is None else await journal.looked(key, mode)
        except (sqlite3.Error, ConfigError) as error:
            self._cannot_read(error)
            return None

    async def is_done(self, key: str, mode: Mode) -> bool:
        """Wait a while for the acknowledged writes of `key`, which would replace at its source what is written now.

        Returns:
            Whether none is left, or it is one of them for which this is called.
        """
        if ARRIVING.get() == key or (mode == "async" and not on_asyncio()):
            return True
        waited_s, pause_s = 0.0, _LOOK_FIRST_S
        most_s = _HELD_S if mode == "sync" and on_asyncio() else _LOOK_S
        while await self.looked(key, mode) is not None:
            if waited_s >= most_s:
                return False
            self._drainer.wake.set()
            if mode == "async":  # by no clock, which may stand still while the work goes on
                await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=pause_s)
            else:
                threading.Event().wait(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(2 * pause_s, _LOOK_MOST_S)
        return True

    def _cannot_read(self, error: Exception) -> None:
        if "reading" not in self._said:
            self._said.add("reading")
            _log.error("acknowledged writes cannot be looked up, so older values may be read: %s", error)

    @property
    def is_closed(self) -> bool:
        """Whether it takes nothing any more."""
        return self._is_closed

    def waiting_writers(self) -> frozenset[str]:
        """Return the names of the functions whose writes this process has acknowledged and not done."""
        journal = self._journal
        return frozenset(name for name, _ in journal.by_writer()) if journal is not None else frozenset()

    def pause_s(self) -> float:
        """Return how long nothing has to be looked at: less than a second where a write is to be tried again sooner."""
        return min(_EVERY_S, self._rounds.again_s(), AGAIN_FIRST_S if self._loops.under_way() else _EVERY_S)

    def tick(self) -> None:
        """Have written what waits, and what dead processes have left."""
        try:
            with self._lock:  # closing opens no other one
                journal = None if self._is_closed else self.open()
        except ConfigError as error:
            self._cannot_read(error)
            return
        if journal is None:
            return
        tell_gone(journal)
        self._take_over(journal)
        self.outbox.settle(journal)
        while not self._is_closed and self._rounds.run(journal, (NO_LOOP,)):
            pass
        self._loops.begin(journal)

    def _take_over(self, journal: Journal) -> None:
        has_loop = bool(self._loops.running())
        for owner in journal.others():
            if journal.is_alive(owner):
                continue
            keys = journal.submit(adopt(owner, journal.token, self._names(), awaiting=has_loop)).result()
            if keys:
                # They may not have reached the levels: whoever asks for them now finds them here.
                self._dropped(*keys)
                _log.warning("%d acknowledged writes of a process that ended are taken over", len(keys))
            self._tell_unknown(journal, owner)
            self.outbox.inherit(journal, owner)
            if owner not in journal.others():
                journal.forget(owner)

    def _tell_unknown(self, journal: Journal, owner: str) -> None:
        known = self._names()
        for name, count in journal.by_writer(owner):
            if name not in known and name not in self._said:
                self._said.add(name)
                _log.warning(_UNKNOWN, count, name)

    def close(self) -> None:
        """Write what waits, for as long as closing may take, and say what is left; idempotent."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            journal = self._journal
            thread, self._thread = self._thread, None
        self._drainer.wake.set()
        if journal is None or journal.is_closed:
            return
        patience = Patience(self._host.clock, self._drain_s)
        closing = Closing(self._rounds, self._loops, journal, patience)
        try:
            if thread is not None and thread is not threading.current_thread():
                patience.join(thread)
            closing.finish()
            self._takes_no_more(patience)
            if patience.left_s():
                closing.finish()  # what came meanwhile, behind an older one
            self._rounds.strike(journal)  # what is done of a round that goes on
            tell_left(journal)
            self.outbox.settle(journal, within_s=patience.left_s())
        except (sqlite3.Error, TimeoutError) as error:
            _log.error("acknowledged writes cannot be finished: %s", error)
        finally:
            self._takes_no_more(patience)
            self._loops.close()
            journal.close(within_s=max(patience.left_s(), _CLOSE_S))

    def _takes_no_more(self, patience: Patience) -> None:
        with self._lock:
            journal, self._journal = self._journal, None
        if journal is not None:
            patience.wait(journal.submit(lambda _: None))  # once this is done, so is what was submitted before

    async def aclose(self) -> None:
        """Close as `close` does; the event loop goes on meanwhile, and does its writes."""
        if self._journal is not None:
            await in_thread(self.close)

    def facts(self) -> Iterator[Fact]:
        """Yield what waits in this process, and what has become of the rest."""
        journal = self._journal
        if journal is None:
            return
        try:
            waiting = journal.by_writer()
        except sqlite3.Error:
            waiting = []
        for name, count in waiting:
            yield Fact("smw_cache_writes_pending", "gauge", "Acknowledged writes not done.", (("fn", name),), count)
        yield from self._rounds.facts()
