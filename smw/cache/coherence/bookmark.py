"""What a drop returns, and reading what it has made: memory is asked for nothing older; does no I/O."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from smw.cache.coherence.collecting import begin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from smw._kernel.call import Mode
    from smw.cache.levels.engine import Engine
    from smw.cache.levels.memory import Entry

__all__ = ["READING", "Reading", "Token", "reading", "token_of"]

READING: ContextVar[Reading | None] = ContextVar("smw_cache_reading", default=None)
_FORM = "smw1."
_MOMENT = struct.Struct(">Q")
_MARK_BYTES = 8
_MOST_MARKS = 32
_MOST_TEXT = 512
MATTERS_S = 10.0
"""How long a drop matters to readers: memory anywhere is behind by a second, and clocks may differ by the rest."""


class Token(str):
    """What `drop` returns: it goes with a reader who must see what the drop has made, as text of at most 400 letters.

    It may come back from anywhere, in a cookie or a header: one that is made up costs a question to a server at most.
    """

    __slots__ = ()

    @classmethod
    def of(cls, scopes: Iterable[str], at: float) -> Token:
        """Return the token of a drop.

        Args:
            scopes: What was dropped.
            at: When, by the clock of the first server; 0 where nobody knows, and then it matters at any time.
        """
        marks = sorted({_mark(scope) for scope in scopes})
        told = b"".join(marks) if len(marks) <= _MOST_MARKS else b""
        raw = _MOMENT.pack(max(0, int(at * 1000))) + told
        return cls(_FORM + base64.urlsafe_b64encode(raw).decode().rstrip("="))


class Reading:
    """A reader that must see what some drop has made.

    Args:
        engine: The levels that it concerns.
        marks: Of what was dropped; None: of everything.
    """

    __slots__ = ("_began", "_engine", "_marks")

    def __init__(self, engine: Engine, marks: frozenset[bytes] | None) -> None:
        self._engine = engine
        self._marks = marks
        self._began = engine.host.clock.now()

    def bars(self, engine: Engine, entry: Entry) -> bool:
        """Tell whether a server has to be asked first whether `entry` still stands."""
        if engine is not self._engine or entry.asked > self._began or not engine.remote.tiers:
            return False
        marks, scopes = self._marks, entry.scopes  # of one that another thread has just dropped there are none
        return marks is None or not scopes or any(_mark(scope) in marks for scope in scopes)


def _mark(scope: str) -> bytes:
    return hashlib.blake2b(scope.encode("utf-8", "surrogatepass"), digest_size=_MARK_BYTES).digest()


def _parsed(token: object, at: float | None) -> tuple[frozenset[bytes] | None] | None:
    """Return the marks of a token, in a tuple; None for what is no token, or one that matters no more at that time."""
    if not isinstance(token, str) or len(token) > _MOST_TEXT or not token.startswith(_FORM):
        return None
    text = token[len(_FORM) :]
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        moment_ms = _MOMENT.unpack_from(raw)[0]
    except (binascii.Error, struct.error, UnicodeError, ValueError):
        return None
    told = raw[_MOMENT.size :]
    if len(told) % _MARK_BYTES or (moment_ms and at is not None and abs(at - moment_ms / 1000) > MATTERS_S):
        return None
    marks = frozenset(told[at : at + _MARK_BYTES] for at in range(0, len(told), _MARK_BYTES))
    return (marks or None,)


async def token_of(engine: Engine, scopes: Sequence[str], mode: Mode) -> Token:
    """Return the token of what was dropped just now, dated by the first server: it is asked where it has answered.

    Args:
        engine: The levels.
        scopes: What was dropped.
        mode: The caller's mode.
    """
    if engine.remote.servers and not engine.remote.servers[0].debt:
        await engine.remote.servers[0].know_time(engine.host.clock.now(), budget=engine.budget(), mode=mode)
    time = engine.remote.time
    at = time.now()
    return Token.of(scopes, at if time.is_known else 0.0)


@contextmanager
def reading(engine: Engine, token: object) -> Iterator[None]:
    """Have what is read in this block be no older than what a drop has made.

    Args:
        engine: The levels.
        token: What `drop` has returned, here or in another process; anything else is without effect.
    """
    time = engine.remote.time
    at = time.now()
    found = _parsed(token, at if time.is_known else None)  # where nobody knows, it may be one of now
    if found is None:
        yield
        return
    begin()
    before = READING.set(Reading(engine, found[0]))
    try:
        yield
    finally:
        READING.reset(before)
