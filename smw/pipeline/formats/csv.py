"""Comma-separated files with a header: each row a dict of text; what does not fit is handed out as refused."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from smw.errors import RecordError
from smw.pipeline.formats.beside import Beside, lines
from smw.pipeline.rows import Reject, Row
from smw.pipeline.values import encode, plain

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CsvSink", "read"]


class _TooLongError(Exception):
    """A line is too long to hold."""


class _Feed:
    """Feeds the parser lines and remembers those of the current row."""

    def __init__(self, file: IO[str]) -> None:
        self._lines = lines(file)
        self.number = 0
        self.raw: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number = line.number
        self.raw.append(line.text)
        if not line.is_whole:
            raise _TooLongError
        return str(line.text)


def read(path: Path) -> Iterator[Row | Reject]:
    """Yield the rows of a CSV file as dicts by the header's names, and the rows that do not fit it.

    Raises:
        RecordError: The header is missing a name, repeats one, or is no text.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        feed = _Feed(file)
        parser = csv.reader(feed, strict=True)
        header: list[str] | None = None
        while True:
            feed.raw.clear()
            try:
                fields = next(parser)
            except StopIteration:
                return
            except (csv.Error, _TooLongError) as error:
                reason = "the line is too long" if isinstance(error, _TooLongError) else str(error)
                if header is None:
                    raise _bad_header(path, reason) from None
                yield Reject(feed.number, reason, "".join(feed.raw))
                continue
            if not fields:
                continue
            if header is None:
                header = _header(path, fields)
                continue
            reason = _misfit(fields, len(header))
            if reason:
                yield Reject(feed.number, reason, "".join(feed.raw))
            else:
                yield Row(feed.number, dict(zip(header, fields, strict=True)))


def _header(path: Path, names: list[str]) -> list[str]:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if reason := _misfit(names, len(names)):
        raise _bad_header(path, reason)
    if "" in names:
        raise _bad_header(path, f"column {names.index('') + 1} has no name")
    if doubled:
        raise _bad_header(path, f"the column {doubled[0]!r} is there twice")
    return names


def _bad_header(path: Path, reason: str) -> RecordError:
    return RecordError(
        "SMW-P153", f"the header of {path.name!r} is unusable: {reason}", fix="the first line names each column once"
    )


def _misfit(fields: list[str], wanted: int) -> str:
    if len(fields) != wanted:
        return f"{len(fields)} fields where the header has {wanted}"
    text = "".join(fields)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "not UTF-8"
    return "a NUL character" if "\0" in text else ""


class CsvSink:
    """Writes dicts (or dataclasses, or models) as CSV; the first row names the columns.

    Missing values and None are empty, nested ones JSON. A column that the first row does not have is an error, since
    no later row can add one to the header.
    """

    def __init__(self, path: Path, token: str) -> None:
        self._beside = Beside(path, token)
        self._writer: csv.DictWriter[str] | None = None
        self.commit = self._beside.commit
        self.abort = self._beside.abort

    def write(self, rows: Iterable[Any]) -> None:
        """Write rows.

        Raises:
            RecordError: A row is no mapping, or has a column that the first row does not have.
        """
        for row in rows:
            flat = row if isinstance(row, Mapping) else plain(row)
            if not isinstance(flat, Mapping):
                message = f"a row of type {type(row).__name__} has no columns"
                raise RecordError("SMW-P154", message, fix="return dicts, or write to a .jsonl file")
            if self._writer is None:
                self._writer = csv.DictWriter(self._beside.file, [str(name) for name in flat], lineterminator="\n")
                self._writer.writeheader()
            cells = {str(name): _cell(value) for name, value in flat.items()}
            extra = cells.keys() - self._writer.fieldnames
            if extra:
                message = f"a row has the column {min(extra)!r}, which the first row does not have"
                raise RecordError("SMW-P154", message, fix="give every row the same columns, None where empty")
            self._writer.writerow(cells)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    value = plain(value)
    return encode(value).decode() if isinstance(value, list | dict) else value
