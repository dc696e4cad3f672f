"""The request body as a WSGI application reads it: counted, and stopped at the limit; buffers nothing."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from smw.web.exchange import RequestTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Input"]


class Input:
    """A stream in the place of ``wsgi.input``.

    It never asks the server for more than one byte above the limit, whatever the application asks for. What else the
    server's stream can do is reached through it; bytes that are read a second time after a ``seek`` count once.

    Args:
        stream: The server's.
        limit: Most bytes that may be read; None is no limit.

    Attributes:
        received: Bytes read.
        is_over: The client has sent more than the limit.
    """

    __slots__ = ("_again", "_limit", "_stream", "is_over", "received")

    def __init__(self, stream: Any, limit: int | None) -> None:
        self._stream = stream
        self._limit = limit
        self._again = 0
        self.received = 0
        self.is_over = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes; all that is left by default."""
        return self._counted(self._stream.read(self._allowed(size)))

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read to the end of the line, or up to `size` bytes of it."""
        return self._counted(self._stream.readline(self._allowed(size)))

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Read all lines, or whole lines of about `hint` bytes."""
        lines: list[bytes] = []
        read = 0
        for line in self:
            lines.append(line)
            read += len(line)
            if hint is not None and 0 < hint <= read:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        """Read line by line."""
        return self

    def __next__(self) -> bytes:
        """Read the next line."""
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def __getattr__(self, name: str) -> Any:
        """Return what else the server's stream has; what reads there is counted too."""
        found = getattr(self._stream, name)
        if name in ("readinto", "readinto1"):
            return functools.partial(self._into, found)
        if name == "read1":
            return lambda size=-1: self._counted(found(self._allowed(size)))
        return functools.partial(self._seek, found) if name == "seek" else found

    def _into(self, readinto: Callable[[Any], int | None], buffer: Any, /) -> int | None:
        view = memoryview(buffer).cast("B")
        count = readinto(view[: self._allowed(len(view))])
        if count:
            self._count(count)
        return count

    def _seek(self, seek: Callable[..., int], *where: int) -> int:
        position = seek(*where)
        self._again = max(0, self.received - position)
        return position

    def _allowed(self, size: int | None) -> int:
        wanted = -1 if size is None else size
        if self._limit is None:
            return wanted
        left = self._limit - self.received + self._again + 1
        return wanted if 0 <= wanted < left else left

    def _counted(self, data: bytes) -> bytes:
        self._count(len(data))
        return data

    def _count(self, count: int) -> None:
        if self._again:
            again = min(count, self._again)
            self._again -= again
            count -= again
        self.received += count
        if self._limit is not None and self.received > self._limit:
            self.is_over = True
            raise RequestTooLarge
