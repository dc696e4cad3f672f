"""Files of JSON values, one a line; lines that are no JSON are handed out as refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from smw.errors import RecordError
from smw.pipeline.formats.beside import Beside, lines
from smw.pipeline.rows import Reject, Row
from smw.pipeline.values import decode, encode, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["JsonLinesSink", "RejectFile", "read"]

_BOM = b"\xef\xbb\xbf"


def read(path: Path) -> Iterator[Row | Reject]:
    """Yield the value of each line, and the lines that have none; empty lines are skipped."""
    with path.open("rb") as file:
        for line in lines(file):
            data = line.text.removeprefix(_BOM) if line.number == 1 else line.text
            if not line.is_whole:
                yield Reject(line.number, "the line is too long", _text(data))
            elif data.strip():
                try:
                    yield Row(line.number, decode(data))
                except RecordError as error:
                    yield Reject(line.number, error.what, _text(data))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape").rstrip("\r\n")


class JsonLinesSink:
    """Writes one JSON value a line."""

    def __init__(self, path: Path, token: str) -> None:
        self._beside = Beside(path, token)
        self.commit = self._beside.commit
        self.abort = self._beside.abort

    def write(self, rows: Iterable[Any]) -> None:
        """Write rows.

        Raises:
            RecordError: A row has no JSON form.
        """
        self._beside.file.writelines(f"{encode(row).decode()}\n" for row in rows)


class RejectFile:
    """Keeps refused rows in a file of JSON lines that exists only if there are any."""

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self._token = token
        self._beside: Beside | None = None

    def add(self, reject: Reject) -> None:
        """Write a refused row with its number and the reason."""
        if self._beside is None:
            self._beside = Beside(self.path, self._token)
        try:
            raw = reject.raw if isinstance(reject.raw, str) else plain(reject.raw)
        except RecordError:
            raw = repr(reject.raw)
        # ASCII escapes carry bytes that are no UTF-8 through, as lone surrogates.
        line = json.dumps({"line": reject.number, "reason": reject.reason, "raw": raw})
        self._beside.file.write(line + "\n")

    def commit(self) -> None:
        """Put the file in its place; without refused rows, remove the one of an earlier run."""
        if self._beside is None:
            self.path.unlink(missing_ok=True)
        else:
            self._beside.commit()

    def abort(self) -> None:
        """Remove what was written."""
        if self._beside is not None:
            self._beside.abort()
