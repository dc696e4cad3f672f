"""Keeps drops on disk that wait for a commit, or for a server that is away; knows no transaction.

A drop that waits for a commit is noted before the function runs that makes something old. Whatever happens to the
process from then on, either the drop is made here, or nobody can make it any more (the change was rolled back), or the
next process of the folder makes it. A drop too many costs a load, one too few an old value.

What servers owe for longer than a moment is written down as a whole, as it stands, and goes when they have answered.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from smw._kernel.bridge import on_asyncio
from smw.cache.coherence.dropping import drop_soon
from smw.cache.functions.readers import Scopes
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Future

    from smw._kernel.call import Mode
    from smw.cache.levels.engine import Engine
    from smw.cache.strategies.journal import Journal

__all__ = ["Noted", "Outbox"]

_log = logging.getLogger("smw.cache")


class Noted:
    """A drop that is on disk.

    Args:
        seq: Its number there.
        outbox: Where it came from.
    """

    __slots__ = ("_outbox", "_seq", "_waits")

    def __init__(self, seq: int, outbox: Outbox) -> None:
        self._seq = seq
        self._outbox = outbox
        self._waits = True

    def begin(self) -> None:
        """Say that the drop is being made, so that it is not taken for one that was rolled back."""
        self._waits = False

    def made(self) -> None:
        """Say that the drop was made, and servers were told or owe an answer."""
        self._waits = False
        self._outbox.over.append(self._seq)

    def __del__(self) -> None:
        """Take it as rolled back when nobody can make it any more; may run anywhere, and so locks nothing."""
        if self._waits:
            self._outbox.over.append(self._seq)


class Outbox:
    """The noted drops of one cache.

    Args:
        engine: The levels.
        open_journal: Returns the journal, if it is on disk.

    Attributes:
        over: Numbers of drops to be struck, for they were made or will never be.
    """

    def __init__(self, engine: Engine, open_journal: Callable[[Mode], Awaitable[Journal | None]]) -> None:
        self._engine = engine
        self._open = open_journal
        self._has_failed = False
        self.forget()

    def forget(self) -> None:
        """Leave everything to the parent of this process."""
        self.over: deque[int] = deque()
        self._debts: tuple[int, Scopes] | None = None  # as they stand on disk

    async def note(self, scopes: Scopes, mode: Mode) -> Noted | None:
        """Return a drop that survives this process, or None where there is no disk for it, or nobody who could miss it.

        A disk that fails is logged, once, and fails no call.
        """
        if not self._engine.remote.tiers or not (scopes.tags or scopes.keys):
            return None
        try:
            journal = await self._open(mode)
            return None if journal is None else await self._noted(journal, scopes, mode)
        except (sqlite3.Error, ConfigError) as error:
            if not self._has_failed:
                self._has_failed = True
                _log.error("drops that wait for a commit cannot be noted, and are lost with this process: %s", error)
            return None

    async def _noted(self, journal: Journal, scopes: Scopes, mode: Mode) -> Noted:
        future = journal.submit(partial(_add, journal.token, _told(scopes)))
        if mode == "sync" or not on_asyncio():
            return Noted(future.result(), self)
        try:
            return Noted(await asyncio.wrap_future(future), self)
        except asyncio.CancelledError:
            future.add_done_callback(self._unwanted)
            raise

    def _unwanted(self, future: Future[int]) -> None:
        if future.exception() is None:
            self.over.append(future.result())

    def settle(self, journal: Journal, *, within_s: float | None = None) -> None:
        """Strike the drops that are over, once what servers owe of them is written down.

        Raises:
            sqlite3.Error: The journal cannot be changed.
            TimeoutError: It was not within that time.
        """
        over = [self.over.popleft() for _ in range(len(self.over))]
        owed = self._owed() if journal.is_durable else Scopes()
        if owed != (self._debts[1] if self._debts else Scopes()):
            over += [self._debts[0]] if self._debts else []
            noted = journal.submit(partial(_add, journal.token, _told(owed))).result(within_s) if any(owed) else 0
            self._debts = (noted, owed) if noted else None
        if over:
            journal.submit(partial(_strike, journal.token, over)).result(within_s)

    def _owed(self) -> Scopes:
        """Return what any server has not acknowledged."""
        counters: set[str] = set()
        keys: set[str] = set()
        for server in self._engine.remote.servers:
            if server.debt:
                more, others = server.debt.names()
                counters.update(more)
                keys.update(others)
        return Scopes(tuple(sorted(counters)), tuple(sorted(keys)))

    def inherit(self, journal: Journal, owner: str) -> None:
        """Make the drops that a dead process has left."""
        rows = journal.submit(partial(_adopt, journal.token, owner)).result()
        for seq, told in rows:
            drop_soon(self._engine, Scopes(*map(tuple, json.loads(told))))
            self.over.append(seq)
        if rows:
            what = "drops are made that waited in a process that ended, for a commit or a server: %d"
            _log.warning(what, len(rows))


def _told(scopes: Scopes) -> str:
    return json.dumps([scopes.tags, scopes.keys])


def _add(owner: str, told: str, connection: sqlite3.Connection) -> int:
    return connection.execute("INSERT INTO drops (owner, told) VALUES (?, ?)", (owner, told)).lastrowid or 0


def _strike(owner: str, seqs: list[int], connection: sqlite3.Connection) -> None:
    # A forked child may strike what its parent has noted: the numbers are the parent's.
    connection.executemany("DELETE FROM drops WHERE seq = ? AND owner = ?", [(seq, owner) for seq in seqs])


def _adopt(owner: str, dead: str, connection: sqlite3.Connection) -> list[tuple[int, str]]:
    rows = connection.execute("SELECT seq, told FROM drops WHERE owner = ?", (dead,)).fetchall()
    connection.execute("UPDATE drops SET owner = ? WHERE owner = ?", (owner, dead))
    return rows
