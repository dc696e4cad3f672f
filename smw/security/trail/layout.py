"""How a log lies in its folder, and how far a crash left it good: names, segments, the scan; it changes no file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smw.security.trail import note
from smw.security.trail.merkle import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["CHECKPOINT", "LOG_NAME", "TEMPORARY", "Damaged", "Scan", "scan", "segment_name", "segments"]

CHECKPOINT = "checkpoint"
TEMPORARY = "checkpoint.tmp"
LOG_NAME = re.compile(r"\d{4,}-[0-9a-f]{12}")
_SEGMENT = re.compile(r"\d{15}\.jsonl")


class Damaged(OSError):
    """A log is not as its writer left it; it is not continued, so that `verify` still sees what was done to it."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A log as it was found.

    Args:
        tree: Over all good lines.
        last: The segment to continue; None where there is none yet.
        offset: End of the last good line in it, in bytes.
        cut_bytes: What lies behind that: a line torn by a crash.
        adopted: Good lines that the checkpoint does not cover yet.
    """

    tree: Tree
    last: Path | None
    offset: int
    cut_bytes: int
    adopted: int


def segment_name(first: int) -> str:
    """Return the file name of the segment whose first line has this number."""
    return f"{first:015d}.jsonl"


def segments(directory: Path) -> list[Path]:
    """Return the segments of a log in order."""
    return sorted(path for path in directory.iterdir() if _SEGMENT.fullmatch(path.name))


def is_own(line: bytes, log_id: str, seq: int) -> bool:
    """Tell whether `line` is record number `seq` of this log."""
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("seq") == seq and record.get("log") == log_id


def scan(directory: Path, accepts: Callable[[note.Checkpoint], bool] | None = None) -> Scan:
    """Find where a log ends, reading only from the segment that its checkpoint reaches into.

    Args:
        directory: The log's folder.
        accepts: Tells whether a checkpoint is signed as it must be; None takes any.

    Raises:
        Damaged: Checkpoint and segments do not fit each other in a way that no crash explains.
        OSError: A file cannot be read.
    """
    files = segments(directory)
    path = directory / CHECKPOINT
    if not path.exists() and not files:
        return Scan(Tree(), None, 0, 0, 0)
    covered, tree = _covered(path, accepts)
    starts = [int(file.stem) for file in files]
    used = max((i for i, start in enumerate(starts) if start <= covered.size), default=0)
    seq = starts[used] if files else 0
    offset = cut = 0
    for index, file in enumerate(files[used:], used):
        if starts[index] != seq:
            raise Damaged(f"{file.name} does not begin where the one before it ends")
        offset = 0
        for line, good in _lines_of(file, directory.name, seq, covered.size):
            if not good:
                break
            if seq >= covered.size:
                tree.append(line)
            offset += len(line) + 1
            seq += 1
        cut = file.stat().st_size - offset
        if cut and index + 1 < len(files):
            raise Damaged(f"{file.name} ends in a torn line, yet the log goes on behind it")
    if seq < covered.size:
        raise Damaged(f"{covered.size} lines are covered by the checkpoint, {seq} are there")
    if covered.closed and (cut or seq > covered.size):
        raise Damaged(f"{seq - covered.size} lines and {cut} bytes were added behind its end, after it was closed")
    return Scan(tree, files[-1] if files else None, offset, cut, seq - covered.size)


def _covered(path: Path, accepts: Callable[[note.Checkpoint], bool] | None) -> tuple[note.Checkpoint, Tree]:
    try:
        covered = note.parse(path.read_bytes().decode())
        tree = covered.tree()
    except (OSError, ValueError) as error:
        raise Damaged(f"{path}: {error}") from None
    if covered.origin.rpartition("/")[2] != path.parent.name:
        raise Damaged(f"{path} belongs to another log")
    if accepts is not None and not accepts(covered):
        raise Damaged(f"{path} is not signed by the key of this service")
    return covered, tree


def _lines_of(file: Path, log_id: str, seq: int, covered: int) -> Iterator[tuple[bytes, bool]]:
    """Yield each line with whether it is whole; behind the checkpoint it must also be this log's next record."""
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, seq):
            line = raw.removesuffix(b"\n")
            yield line, raw.endswith(b"\n") and (number < covered or is_own(line, log_id, number))
