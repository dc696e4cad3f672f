"""The service's database: SQLite behind a few milliseconds of network, so that a cache has something to save.

Everything seeded follows from a number, which lets the demo know the right answer to every request it sends.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextvars import ContextVar
from pathlib import Path
from typing import Any

USERS = 2_000
PLAYLISTS = 2_000
TRACKS = 5_000
ROUND_TRIP_S = 0.004

_SCHEMA = """
create table if not exists users (id text primary key, email text);
create table if not exists tracks (id integer primary key, title text, artist text);
create table if not exists playlists (id text primary key, owner text, name text, tracks text);
create index if not exists playlists_by_owner on playlists (owner);
create table if not exists payments (id integer primary key, owner text, cents integer, card_token text);
create table if not exists plays (event integer primary key, user text, track integer);
"""
_MOODS = ("late night", "morning", "long drive", "rainy", "focus", "summer", "kitchen", "running")
_STYLES = ("jazz", "techno", "folk", "soul", "ambient", "punk", "salsa", "indie", "opera", "dub")

# Round trips of the request being served; the list is shared with whatever tasks the request starts.
queries: ContextVar[list[str] | None] = ContextVar("queries", default=None)


class Busy(Exception):
    """The database refused a write it will take a moment later."""


def user_id(number: int) -> str:
    """Return the id of a user by number."""
    return f"u{number % USERS:04}"


def playlist_id(number: int) -> str:
    """Return the id of a seeded playlist by number."""
    return f"p{number % PLAYLISTS:04}"


def owner_of(number: int) -> str:
    """Return who owns a seeded playlist."""
    return user_id(number * 7919)


def name_of(number: int) -> str:
    """Return the name of a seeded playlist."""
    number %= PLAYLISTS
    return f"{_MOODS[number % 8]} {_STYLES[number // 8 % 10]} {number}"


def title_of(number: int) -> str:
    """Return the title of a track by number."""
    return f"{_STYLES[number % 10]} no. {number}"


class Database:
    """All tables of the service.

    Args:
        path: SQLite file, which a restarted service finds again; the default lives in memory.
    """

    def __init__(self, path: Path | str = ":memory:") -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma synchronous = off")
        self._db.executescript(_SCHEMA)
        self._refused: set[int] = set()
        if not self._db.execute("select 1 from users limit 1").fetchone():
            self._seed()

    def _seed(self) -> None:
        users = [(user_id(n), f"{user_id(n)}@example.org") for n in range(USERS)]
        tracks = [(n, title_of(n), f"artist {n % 400}") for n in range(TRACKS)]
        lists = [(playlist_id(n), owner_of(n), name_of(n), _some_tracks(n)) for n in range(PLAYLISTS)]
        self._db.execute("begin")
        self._db.executemany("insert into users values (?, ?)", users)
        self._db.executemany("insert into tracks values (?, ?, ?)", tracks)
        self._db.executemany("insert into playlists values (?, ?, ?, ?)", lists)
        self._db.execute("commit")

    async def _ask(self, sql: str, *values: object) -> list[sqlite3.Row]:
        asked = queries.get()
        if asked is not None:
            asked.append(sql)
        await asyncio.sleep(ROUND_TRIP_S)
        return self._db.execute(sql, values).fetchall()

    async def playlist(self, owner: str, playlist: str) -> dict[str, Any] | None:
        """Return one playlist, or None where the owner has none of that id."""
        rows = await self._ask("select * from playlists where id = ? and owner = ?", playlist, owner)
        return _playlist(rows[0]) if rows else None

    async def playlists(self, owner: str) -> list[dict[str, Any]]:
        """Return every playlist of a user."""
        return [_playlist(row) for row in await self._ask("select * from playlists where owner = ?", owner)]

    async def add_playlist(self, owner: str, name: str) -> dict[str, Any]:
        """Make an empty playlist."""
        sql = "insert into playlists select printf('p%04d', count(*)), ?, ?, '[]' from playlists returning *"
        return _playlist((await self._ask(sql, owner, name))[0])

    async def track(self, number: int) -> dict[str, Any] | None:
        """Return one track."""
        rows = await self._ask("select * from tracks where id = ?", number)
        return dict(rows[0]) if rows else None

    async def find(self, words: str) -> list[dict[str, Any]]:
        """Return up to 20 tracks whose title holds one of some words."""
        found: dict[int, dict[str, Any]] = {}
        for word in words.split()[:4]:
            for row in await self._ask("select * from tracks where title like ? limit 20", f"%{word}%"):
                found[row["id"]] = dict(row)
        return list(found.values())[:20]

    async def user(self, user: str) -> dict[str, Any] | None:
        """Return a user's own data."""
        rows = await self._ask("select * from users where id = ?", user)
        return dict(rows[0]) if rows else None

    async def add_payment(self, owner: str, cents: int, card_token: str) -> int:
        """Book a payment and return its number."""
        sql = "insert into payments (owner, cents, card_token) values (?, ?, ?) returning id"
        return int((await self._ask(sql, owner, cents, card_token))[0]["id"])

    async def add_play(self, event: int, user: str, track: int) -> None:
        """Note that a user played a track; noting the same event twice changes nothing.

        Raises:
            Busy: The first time, for one event in fifty.
            LookupError: There is no such track.
        """
        if event % 50 == 7 and event not in self._refused:
            self._refused.add(event)
            raise Busy(f"event {event}")
        if not await self._ask("select 1 from tracks where id = ?", track):
            raise LookupError(f"no track {track}")
        self._db.execute("insert or ignore into plays values (?, ?, ?)", (event, user, track))

    async def charts(self) -> list[dict[str, Any]]:
        """Return the ten tracks played most."""
        sql = "select track, count(*) as plays from plays group by track order by plays desc, track limit 10"
        return [dict(row) for row in await self._ask(sql)]

    def plays(self) -> list[dict[str, Any]]:
        """Return every play that was noted."""
        return [dict(row) for row in self._db.execute("select * from plays order by event")]

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _some_tracks(number: int) -> str:
    return json.dumps([(number * 31 + step * 17) % TRACKS for step in range(12)])


def _playlist(row: sqlite3.Row) -> dict[str, Any]:
    return {**dict(row), "tracks": json.loads(row["tracks"])}


_opened: list[Database] = []


def use(database: Database) -> None:
    """Make `database` the one that the service works on."""
    _opened[:] = [database]


def db() -> Database:
    """Return the database of the service; one in memory where none was named."""
    if not _opened:
        use(Database())
    return _opened[0]
