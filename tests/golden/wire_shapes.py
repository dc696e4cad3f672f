"""What the pinned entries and keys are made of; names and fields here are part of what is pinned, so they stay."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
import zoneinfo
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import BaseModel


class Genre(enum.Enum):
    """An enum."""

    ROCK = "rock"
    JAZZ = "jazz"


class Size(NamedTuple):
    """A named tuple."""

    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Track:
    """A dataclass that holds others."""

    title: str
    genre: Genre
    cover: Size | None = None


class Playlist(BaseModel):
    """A pydantic model."""

    id: uuid.UUID
    tracks: list[Track]
    public: bool = False


class Point:
    """Something that nothing but pickle takes."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None


def playlists() -> dict[str, Playlist | Track | Size | Genre]: ...


WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901)  # noqa: DTZ001 - one without a zone is meant
PLAIN = {"id": 7, "name": "café", "ids": [1, -2, 2**40], "ratio": 0.25, "on": True, "off": None, "raw": b"\0\xff"}
EXTENDED = [
    (1, "a", ()),
    {3},
    frozenset({"x"}),
    WHEN,
    WHEN.replace(tzinfo=dt.UTC),
    WHEN.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris"), fold=1),
    WHEN.replace(tzinfo=dt.timezone(dt.timedelta(hours=-3), "BRT")),
    WHEN.date(),
    WHEN.time(),
    dt.timedelta(days=-1, seconds=5, microseconds=9),
    Decimal("-1.50"),
    uuid.UUID(int=2**100 + 1),
    2**70,
    -(2**64),
    1 - 2j,
    {1: "int key", (1, 2): "tuple key", None: "none"},
    "\ud800",
]
TRACK = Track("So What", Genre.JAZZ, Size(640, 480))
TYPED = {"list": Playlist(id=uuid.UUID(int=5), tracks=[TRACK], public=True), "size": Size(1, 2)}


# --- calls whose keys are pinned ---------------------------------------------------------------------------------


def user(user_id: Any, *more: Any, lang: str = "en", **others: Any) -> Any:
    """Take whatever is asked for."""
    return user_id, more, lang, others


async def later(user_id: int) -> int:
    """A coroutine function."""
    return user_id


class Service:
    """Its instances say who they are."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __cache_key__(self) -> str:
        return self.name

    def load(self, number: int) -> int:
        """A method."""
        return number


def by_text(text: str) -> str:
    """Has a key of its own."""
    return text.lower()
