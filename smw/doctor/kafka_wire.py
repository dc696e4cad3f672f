"""Asks a Kafka broker three questions in its own protocol and reads the answers; needs no client, judges nothing."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smw.doctor.network import STEP_S, ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smw.doctor.network import Connection

__all__ = ["Cluster", "ForeignError", "SilenceError", "apis", "cluster", "settings"]

METADATA, API_VERSIONS, DESCRIBE_CONFIGS = 3, 18, 32
_NAME = b"smw-doctor"
_CORRELATION = 1936553844
_MOST_BYTES = 2**20
_BROKER = 4
"""Among the kinds of things that have settings."""


class ForeignError(Exception):
    """What answered speaks another protocol; the text is the beginning of what it said."""


class SilenceError(TimeoutError):
    """Nothing at all was answered within the time of a step."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a broker says of the cluster that it belongs to.

    Args:
        identity: Name that the cluster gave itself.
        brokers: Number of each broker that lives → the host and port that it wants to be called at.
    """

    identity: str
    brokers: dict[int, tuple[str, int]]


class _Answer:
    """Reads the fields of an answer one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, form: str) -> int:
        """Return the next number, of the size that `form` has in `struct`."""
        (value,) = struct.unpack_from(f">{form}", self._data, self._at)
        self._at += struct.calcsize(f">{form}")
        return int(value)

    def text(self) -> str | None:
        """Return the next text, None where there is a null."""
        length = self.number("h")
        if length < 0:
            return None
        start, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise struct.error("a text ends beyond the answer")
        return self._data[start : self._at].decode("utf-8", "replace")

    def skip(self, *forms: str) -> None:
        """Pass over fields: a form of `struct`, or ``text``."""
        for form in forms:
            self.text() if form == "text" else self.number(form)

    def count(self) -> range:
        """Return the numbers of the elements that follow."""
        return range(self.number("i"))


async def _asked(connection: Connection, key: int, version: int, body: bytes = b"") -> _Answer:
    """Send one question and return its answer.

    Raises:
        ForeignError: It is no answer of a broker.
        SilenceError: There is none in time.
        EOFError: The connection was closed instead.
        OSError: The connection broke.
    """
    header = struct.pack(">hhih", key, version, _CORRELATION, len(_NAME)) + _NAME
    reader, writer = connection
    begun = b""
    try:
        async with asyncio.timeout(STEP_S):
            writer.write(struct.pack(">i", len(header) + len(body)) + header + body)
            await writer.drain()
            begun = await reader.readexactly(8)
            size, correlation = struct.unpack(">ii", begun)
            if correlation != _CORRELATION or not 4 < size < _MOST_BYTES:
                raise ForeignError(_start(begun + await reader.read(200)))
            return _Answer(await reader.readexactly(size - 4))
    except ConnectionResetError:
        raise EOFError from None
    except asyncio.IncompleteReadError as error:
        if error.partial and not begun:
            raise ForeignError(_start(error.partial)) from None
        raise EOFError from None
    except TimeoutError:
        raise SilenceError from None


def _start(said: bytes) -> str:
    return said[:40].decode("latin-1")


async def apis(connection: Connection) -> dict[int, tuple[int, int]]:
    """Return question → the oldest and newest form of it that the broker understands.

    Raises:
        ForeignError: Something else answers there.
        SilenceError: Nothing is answered.
        EOFError: The connection was closed instead.
        OSError: The connection broke.
    """
    answer = await _asked(connection, API_VERSIONS, 0)
    with _readable():
        answer.number("h")
        return {answer.number("h"): (answer.number("h"), answer.number("h")) for _ in answer.count()}


async def is_foreign(connection: Connection) -> bool:
    """Tell whether a server that does not answer Kafka's questions answers a line of text; takes a new connection."""
    with contextlib.suppress(OSError):
        return bool(await ask(connection, b"PING\r\n\r\n", until=b"\n"))
    return False


async def cluster(connection: Connection) -> Cluster:
    """Return the brokers that live; asks for no topic, so that none is made.

    Raises:
        ForeignError: The answer cannot be read.
        SilenceError: Nothing is answered.
        EOFError: The connection was closed instead.
        OSError: The connection broke.
    """
    answer = await _asked(connection, METADATA, 4, struct.pack(">ib", 0, 0))
    with _readable():
        answer.number("i")
        brokers = {}
        for _ in answer.count():
            node, host, port = answer.number("i"), answer.text() or "", answer.number("i")
            answer.text()
            brokers[node] = host, port
        return Cluster(answer.text() or "", brokers)


async def settings(connection: Connection, nodes: Sequence[int], names: Sequence[str]) -> dict[str, str] | None:
    """Return the settings of the broker at the other end, whichever of `nodes` it is; None where it does not tell.

    Raises:
        ForeignError: The answer cannot be read.
        SilenceError: Nothing is answered.
        EOFError: The connection was closed instead.
        OSError: The connection broke.
    """
    wanted = struct.pack(">i", len(names)) + b"".join(_text(name) for name in names)
    of_each = b"".join(struct.pack(">b", _BROKER) + _text(str(node)) + wanted for node in nodes)
    answer = await _asked(connection, DESCRIBE_CONFIGS, 1, struct.pack(">i", len(nodes)) + of_each + b"\0")
    told = None
    with _readable():
        answer.number("i")
        for _ in answer.count():
            error, values = _described(answer)
            told = told if error else values
    return told


def _described(answer: _Answer) -> tuple[int, dict[str, str]]:
    """Return the error of one broker's part of an answer, and its settings."""
    error, values = answer.number("h"), {}
    answer.skip("text", "b", "text")
    for _ in answer.count():
        name, value = answer.text() or "", answer.text() or ""
        answer.skip("b", "b", "b")
        for _ in answer.count():
            answer.skip("text", "text", "b")
        values[name] = value
    return error, values


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode("ascii")


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Turn an answer that has not the form it should have into `ForeignError`."""
    try:
        yield
    except struct.error:
        raise ForeignError("an answer that cannot be read") from None
