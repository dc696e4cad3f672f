"""The file formats of batch jobs, chosen by the end of a file's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw.errors import ConfigError, nearest
from smw.pipeline.formats import csv, jsonl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from smw.pipeline.rows import Reject, Row, Sink

__all__ = ["read", "sink"]

_FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def _format(path: Path) -> str:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(_FORMATS)
        message = f"cannot tell the format of {path.name!r}; known: {known}.{nearest(path.suffix, _FORMATS)}"
        raise ConfigError("SMW-P150", message, fix=f"{path.stem}.csv or {path.stem}.jsonl") from None


def read(path: Path) -> Iterator[Row | Reject]:
    """Return an iterator over a file's rows and the rows that cannot be read.

    Raises:
        ConfigError: The format is unknown, or there is no such file.
    """
    reader = csv.read if _format(path) == "csv" else jsonl.read
    if not path.is_file():
        raise ConfigError("SMW-P151", f"there is no file {path.name!r}", seen=path, fix="check the path")
    return reader(path)


def sink(path: Path, token: str) -> Sink:
    """Return what writes rows to a file.

    Raises:
        ConfigError: The format is unknown, or the folder does not exist.
    """
    kind = _format(path)
    if not path.parent.is_dir():
        raise ConfigError("SMW-P151", f"there is no folder for {path.name!r}", seen=path.parent, fix="make it first")
    return csv.CsvSink(path, token) if kind == "csv" else jsonl.JsonLinesSink(path, token)
