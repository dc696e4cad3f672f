"""A file that appears under its name only when it is complete; and lines read with a bound on their length."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["LINE_MOST", "Beside", "Line", "lines"]

LINE_MOST = 16 * 2**20
_SHOWN = 1_000


class Beside:
    """Writes next to the final place and renames on success, so that nobody ever reads half a file."""

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self._part = path.with_name(f".{path.name}.{token}.part")
        self.file: IO[str] = self._part.open("w", encoding="utf-8", newline="", errors="strict")

    def commit(self) -> None:
        """Put the file in its place, on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self._part.replace(self.path)

    def abort(self) -> None:
        """Remove what was written."""
        self.file.close()
        self._part.unlink(missing_ok=True)


class Line(NamedTuple):
    """One physical line, or the beginning of one that is too long to hold."""

    number: int
    text: Any
    is_whole: bool


def lines(file: IO[Any], most: int = LINE_MOST) -> Iterator[Line]:
    """Yield the lines of a file; of one longer than `most` only the beginning, the rest is skipped."""
    number = 0
    while text := file.readline(most):
        number += 1
        whole = len(text) < most or text[-1:] in ("\n", b"\n")
        if not whole:
            text = text[:_SHOWN]
            while (rest := file.readline(most)) and rest[-1:] not in ("\n", b"\n"):
                pass
        yield Line(number, text, whole)
