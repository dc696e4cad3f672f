"""Keeps acknowledged writes and noted drops in SQLite, on disk or in memory; knows no function and no level.

Processes that share a folder share one database. Every row has an owner, whose lock file says whether it lives; rows of
the dead are taken over. A key's rows are done in the order in which they came, one at a time whoever owns them; a new
row replaces one of the same key and writer that has not begun. Calls that meet become durable with one `fsync`.
What is changed, and how, is in `smw.cache.strategies.journal_rows`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import threading
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from smw._kernel.bridge import on_asyncio
from smw._kernel.process import ForkLock, after_fork
from smw.cache.strategies.forks import Whole
from smw.cache.strategies.owners import Owners
from smw.cache.strategies.pending import SEEN, Asker, Pending
from smw.cache.strategies.turnstile import Turnstile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from smw._kernel.call import Mode

T = TypeVar("T")

__all__ = ["Journal"]

_log = logging.getLogger("smw.cache")
_BUSY_S = 5.0
_TOGETHER = 500
_CLOSED = "the journal is closed"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS writes (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, writer TEXT NOT NULL, owner TEXT NOT NULL,
  loop INTEGER NOT NULL, running INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
  arguments BLOB NOT NULL, value BLOB NOT NULL, made REAL NOT NULL);
CREATE INDEX IF NOT EXISTS writes_of_key ON writes (key, seq);
CREATE UNIQUE INDEX IF NOT EXISTS writes_waiting ON writes (key, writer) WHERE running = 0;
CREATE TABLE IF NOT EXISTS dead (
  seq INTEGER PRIMARY KEY, key TEXT NOT NULL, writer TEXT NOT NULL, attempts INTEGER NOT NULL,
  arguments BLOB NOT NULL, value BLOB NOT NULL, made REAL NOT NULL, died REAL NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS drops (seq INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, told TEXT NOT NULL);
CREATE VIEW IF NOT EXISTS owners AS SELECT owner FROM writes UNION SELECT owner FROM drops;
"""
_forked_away: list[sqlite3.Connection] = []
"""Connections of a parent: closing one in a child would take part in what belongs to the parent."""


class Journal:
    """The writes of this process and, on disk, of all that share its folder.

    Args:
        folder: Where the database is; None keeps it in memory.
        draw: Makes names for this process; the first one that nobody has used is taken.

    Attributes:
        folder: As given.
        token: The name of this process.
    """

    def __init__(self, folder: Path | None, draw: Callable[[], str]) -> None:
        self.folder = folder
        self.token = draw()
        self._queue: queue.SimpleQueue[tuple[Callable[[sqlite3.Connection], Any], Future[Any]] | None]
        self._queue = queue.SimpleQueue()
        self._lock = ForkLock()
        self._entering = ForkLock()  # never held while a disk is waited for
        self._reading = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_ending = self._is_left = self._is_closed = False
        self._owners = None if folder is None else Owners(folder)
        self._files: list[tuple[int, int]] | None = None
        self._turns: Turnstile | None = None
        self._whole, self._whole_reading = Whole(), Whole()
        self._added = self._known = 0
        self._is_untold = False
        self._asker = Asker()
        with ExitStack() as undo:
            if self._owners is not None:
                undo.callback(self._owners.give_up)
            undo.callback(self._end_turns)
            self._connection = self._open(draw, undo)
            self._reader = self._connection if folder is None else self._connect(undo)
            self._pending = Pending(folder, self.token, self.read)
            undo.callback(self._pending.close)
            self._pending.learn()
            self._files = None if folder is None else self._files_there()
            undo.pop_all()
        after_fork(self._forked)

    def _forked(self) -> None:
        """Leave everything to the parent; whoever uses a child's cache opens a journal of its own."""
        _forked_away.extend((self._connection, self._reader))
        self._is_closed = True
        self._end_turns()
        self._pending.close()
        self._asker.forget()
        if self._owners is not None:
            self._owners.forked()

    @property
    def is_closed(self) -> bool:
        """Whether it takes nothing any more."""
        return self._is_closed or self._is_left

    @property
    def is_durable(self) -> bool:
        """Whether what it has taken survives this process."""
        return self.folder is not None

    def _open(self, draw: Callable[[], str], undo: ExitStack) -> sqlite3.Connection:
        if self.folder is not None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(self.folder / "writes.db", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._turns = Turnstile(self.folder)
        with self._turn(), self._whole:
            connection = self._connect(undo)
            connection.executescript(_SCHEMA)
            if self._owners is not None:
                owners = {owner for (owner,) in connection.execute("SELECT owner FROM owners")}
                self._owners.sweep(owners)
                while self.token in owners or not self._owners.take(self.token):
                    self.token = draw()
        if self.folder is not None:
            _make_durable(self.folder)
        return connection

    def _files_there(self) -> list[tuple[int, int]]:
        assert self.folder is not None  # noqa: S101 - for the type checker
        found = [(self.folder / name).stat() for name in ("writes.db", SEEN)]
        return [(each.st_dev, each.st_ino) for each in found]

    def was_removed(self) -> bool:
        """Tell, once, that somebody has removed the database, into which it goes on writing for this process alone."""
        if self._files is None:
            return False
        try:
            is_there = self._files_there() == self._files
        except FileNotFoundError:
            is_there = False
        except OSError:
            return False  # nobody knows
        if not is_there:
            self._files = None
        return not is_there

    def _connect(self, undo: ExitStack) -> sqlite3.Connection:
        path = ":memory:" if self.folder is None else str(self.folder / "writes.db")
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        undo.callback(connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def submit(self, change: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run `change` in a transaction, together with others that wait; its result comes once all are durable.

        Returns:
            The result, or `sqlite3.Error`; it cannot be cancelled.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        with self._entering:
            if self.folder is not None and not self._is_told() and self._has_thread():
                self._queue.put((change, future))
                return future
        if self._is_left:
            future.set_exception(sqlite3.ProgrammingError(_CLOSED))
        else:
            self._commit([(change, future)])
        return future

    def _is_told(self) -> bool:
        """Whether it is the journal's thread that asks, telling somebody: it cannot wait for itself."""
        return threading.current_thread() is self._thread and not self._connection.in_transaction

    def _has_thread(self) -> bool:
        if self._is_ending:
            return False
        if self._thread is None:
            thread = threading.Thread(target=self._commit_together, name="smw-cache-journal", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends
                return False
            self._thread = thread
        return True

    def _commit_together(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < _TOGETHER:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    self._queue.put(None)
                    break
                batch.append(item)
            self._commit(batch)
        self._end()

    def _commit(self, batch: Sequence[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]]) -> None:
        """Make changes in one transaction; who waits for them is told when nothing is locked any more."""
        try:
            with self._lock, self._turn(), self._whole:
                results = self._changed([change for change, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, and the next ones be served
            for _, future in batch:
                future.set_exception(error)
            return
        self._tell_added()
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)

    def _turn(self) -> AbstractContextManager[None]:
        return nullcontext() if self._turns is None or self._is_closed else self._turns.turn()

    def _end_turns(self) -> None:
        if self._turns is not None:
            self._turns.close()

    def _changed(self, changes: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        self._check_open()
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = [change(connection) for change in changes]
            added = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'writes'").fetchone()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._added = added[0] if added else 0
        return results

    def _tell_added(self) -> None:
        """Have all processes know that a write was added, before it is acknowledged."""
        added = self._added
        if added == self._known:
            return
        try:
            self._pending.tell()
            self._known = added
            self._pending.learn()
        except (OSError, sqlite3.Error) as error:  # tried again with the next change
            what = "other processes may read values older than those that wait in %s: %s"
            _log.log(logging.DEBUG if self._is_untold else logging.ERROR, what, self.folder, error)
            self._is_untold = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise sqlite3.ProgrammingError(_CLOSED)

    def read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what is committed.

        Raises:
            sqlite3.Error: It cannot be read.
        """
        self._check_open()
        with self._reading if self.folder is not None else self._lock, self._whole_reading:
            return self._reader.execute(query, values).fetchall()

    def newest(self, key: str) -> bytes | None:
        """Return the value that `key` will have, or None where nothing waits for it.

        Raises:
            sqlite3.Error: It cannot be read.
        """
        return self._pending.newest(key)

    async def looked(self, key: str, mode: Mode) -> bytes | None:
        """Return what `newest` does; an event loop goes on meanwhile."""
        if self._pending.lacks(key):
            return None
        asked = self._asker.ask(partial(self.newest, key)) if mode == "async" and on_asyncio() else None
        return self.newest(key) if asked is None else await asyncio.wrap_future(asked)

    def counts(self) -> tuple[int, int]:
        """Return how many writes wait, of all processes, and how many are dead."""
        ((waiting, dead),) = self.read("SELECT (SELECT count(*) FROM writes), (SELECT count(*) FROM dead)")
        return waiting, dead

    def others(self) -> list[str]:
        """Return the other processes that own anything."""
        found = self.read("SELECT owner FROM owners WHERE owner <> ?", self.token)
        return [owner for (owner,) in found]

    def by_writer(self, owner: str | None = None) -> list[tuple[str, int]]:
        """Return how many writes of each function a process owns: this one, unless told."""
        return self.read("SELECT writer, count(*) FROM writes WHERE owner = ? GROUP BY writer", owner or self.token)

    def is_alive(self, owner: str) -> bool:
        """Tell whether a process still holds its lock."""
        return owner == self.token if self._owners is None else self._owners.is_alive(owner)

    def forget(self, owner: str) -> None:
        """Remove what a dead process has left beside its rows."""
        if self._owners is not None:
            self._owners.forget(owner)

    def close(self, *, within_s: float = _BUSY_S * 2) -> None:
        """Finish what was submitted and close; rows that are left are taken over by the next process. Idempotent.

        Args:
            within_s: Longest wait for a disk; the journal's thread closes by itself where that takes longer.
        """
        with self._entering:
            self._is_ending = True
            thread, self._thread = self._thread, None
            if thread is not None:
                self._queue.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(within_s)
            self._is_left = thread.is_alive()
        if not self._is_left:
            self._end()

    def _end(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._connection.close()
            if self._reader is not self._connection:
                with self._reading:
                    self._reader.close()
            self._end_turns()
        self._pending.close()
        self._asker.close()
        if self._owners is not None:
            self._owners.give_up()


def _make_durable(folder: Path) -> None:
    """Have the names in a folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
