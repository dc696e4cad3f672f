"""What is changed in the journal of writes, each in one transaction; knows no function and no level."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Sequence

__all__ = [
    "ANY_LOOP",
    "BATCH",
    "NO_LOOP",
    "Row",
    "adopt",
    "bury",
    "claim",
    "give_back",
    "leave",
    "put",
    "settle",
    "waits",
]

NO_LOOP, ANY_LOOP = 0, -1
"""Where a row is done: in a thread, or on whatever event loop there is; other numbers are loops of the owner."""
BATCH = 100
_CLAIMABLE = """
SELECT seq, key, writer, arguments, attempts FROM writes AS mine
WHERE owner = ? AND running = 0
AND loop IN (SELECT value FROM json_each(?)) AND writer IN (SELECT value FROM json_each(?))
AND NOT EXISTS (SELECT 1 FROM writes AS head WHERE head.key = mine.key AND head.seq < mine.seq) ORDER BY seq
"""
_WAITS = """
SELECT 1 FROM writes WHERE owner = ? AND loop IN (SELECT value FROM json_each(?))
AND writer IN (SELECT value FROM json_each(?)) LIMIT 1
"""
_OF_DEAD = """
SELECT seq, key FROM writes WHERE owner = ? AND writer IN (SELECT value FROM json_each(?)) AND (loop = 0 OR ?)
"""
_ADOPT = """
UPDATE writes SET owner = ?, running = 0, loop = CASE loop WHEN 0 THEN 0 ELSE -1 END
WHERE owner = ? AND writer IN (SELECT value FROM json_each(?)) AND (loop = 0 OR ?)
"""
_STRIKE_REPLACED = """
DELETE FROM writes WHERE seq = ? AND EXISTS (SELECT 1 FROM writes AS newer WHERE newer.key = writes.key
AND newer.writer = writes.writer AND newer.running = 0 AND newer.seq > writes.seq)
"""


class Row(NamedTuple):
    """A write that is to be done.

    Attributes:
        seq: Its place in the order of all.
        key: Full key of the cached result that it changes.
        writer: ``module:qualname`` of the function that does it.
        arguments: Those of the call, sealed where values are.
        attempts: How often it has failed.
    """

    seq: int
    key: str
    writer: str
    arguments: bytes
    attempts: int


def put(row: dict[str, Any], *, most: int) -> Callable[[sqlite3.Connection], int | None]:
    """Return the change that adds a write; it gives its number, or None where `most` wait and none for its key."""

    def change(connection: sqlite3.Connection) -> int | None:
        waits = connection.execute("SELECT 1 FROM writes WHERE key = ? LIMIT 1", (row["key"],)).fetchone()
        if waits is None and connection.execute("SELECT count(*) FROM writes").fetchone()[0] >= most:
            return None
        if waits is not None:
            connection.execute("DELETE FROM writes WHERE key = :key AND writer = :writer AND running = 0", row)
        added = connection.execute(
            "INSERT INTO writes (key, writer, owner, loop, arguments, value, made) "
            "VALUES (:key, :writer, :owner, :loop, :arguments, :value, :made)",
            row,
        )
        return added.lastrowid

    return change


def claim(owner: str, loops: Collection[int], writers: Collection[str], waiting: Collection[int]) -> Callable[..., Any]:
    """Return the change that begins up to a hundred writes; it gives their rows, in order, one of each key.

    Args:
        owner: Whose.
        loops: Done where the caller can do them.
        writers: Functions that are known here.
        waiting: Numbers of those that must not be tried again yet.
    """

    def change(connection: sqlite3.Connection) -> list[Row]:
        rows: list[Row] = []
        for found in connection.execute(_CLAIMABLE, (owner, _list(loops), _list(writers))):
            if found[0] not in waiting:
                rows.append(Row(*found))
                if len(rows) == BATCH:
                    break
        connection.executemany("UPDATE writes SET running = 1 WHERE seq = ?", [(row.seq,) for row in rows])
        return rows

    return change


def waits(owner: str, loops: Collection[int], writers: Collection[str]) -> Callable[[sqlite3.Connection], bool]:
    """Return what tells whether a write waits that `claim` would begin sooner or later."""

    def change(connection: sqlite3.Connection) -> bool:
        told = (owner, _list(loops), _list(writers))
        return connection.execute(_WAITS, told).fetchone() is not None

    return change


def settle(seqs: Sequence[int]) -> Callable[[sqlite3.Connection], None]:
    """Return the change that strikes writes that are done."""

    def change(connection: sqlite3.Connection) -> None:
        connection.executemany("DELETE FROM writes WHERE seq = ?", [(seq,) for seq in seqs])

    return change


def give_back(rows: Sequence[tuple[int, int]]) -> Callable[[sqlite3.Connection], None]:
    """Return the change that lets writes wait again, each so many attempts later; one that a newer replaces is struck.

    Args:
        rows: Numbers of writes, with how many attempts have failed.
    """

    def change(connection: sqlite3.Connection) -> None:
        for seq, failed in rows:
            connection.execute(_STRIKE_REPLACED, (seq,))
            connection.execute("UPDATE writes SET running = 0, attempts = attempts + ? WHERE seq = ?", (failed, seq))

    return change


def leave(owner: str, loop: int) -> Callable[[sqlite3.Connection], None]:
    """Return the change that leaves the writes of an event loop that ends to any other one."""

    def change(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE writes SET loop = ? WHERE owner = ? AND loop = ?", (ANY_LOOP, owner, loop))

    return change


def bury(seq: int, reason: str, wall_s: float) -> Callable[[sqlite3.Connection], None]:
    """Return the change that moves a write to the dead ones."""

    def change(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO dead SELECT seq, key, writer, attempts + 1, arguments, value, made, ?, ? FROM writes "
            "WHERE seq = ?",
            (wall_s, reason, seq),
        )
        connection.execute("DELETE FROM writes WHERE seq = ?", (seq,))

    return change


def adopt(
    dead: str, owner: str, writers: Collection[str], *, awaiting: bool
) -> Callable[[sqlite3.Connection], list[str]]:
    """Return the change that takes over the writes of a dead process; it gives their keys.

    Args:
        dead: The process.
        owner: Who takes over.
        writers: Functions that are known there.
        awaiting: Whether it has an event loop for the writes of coroutine functions.
    """

    def change(connection: sqlite3.Connection) -> list[str]:
        of_dead = (dead, _list(writers), awaiting)
        found = connection.execute(_OF_DEAD, of_dead).fetchall()
        connection.executemany(_STRIKE_REPLACED, [(seq,) for seq, _ in found])
        connection.execute(_ADOPT, (owner, *of_dead))
        return list(dict.fromkeys(key for _, key in found))

    return change


def _list(values: Collection[Any]) -> str:
    return json.dumps(list(values))
