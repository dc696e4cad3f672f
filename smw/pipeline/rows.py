"""What a batch job reads and writes, row by row: values, refused ones, and where both go; knows no file format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from smw.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableSequence

__all__ = ["ListSink", "Quarantine", "Reject", "RejectList", "Row", "Sink"]


class Row(NamedTuple):
    """One row that could be read: its number (the line, in a file) and its value."""

    number: int
    value: Any


class Reject(NamedTuple):
    """One row that was refused: its number, why, and the row as it was read (cut, where it is too long to hold)."""

    number: int
    reason: str
    raw: Any


class Sink(Protocol):
    """Where result rows go; nothing shows until `commit`."""

    def write(self, rows: Iterable[Any]) -> None:
        """Take rows."""
        ...

    def commit(self) -> None:
        """Make everything written the result."""
        ...

    def abort(self) -> None:
        """Leave no trace."""
        ...


class Quarantine(Protocol):
    """Where refused rows go."""

    def add(self, reject: Reject) -> None:
        """Keep a refused row."""
        ...

    def commit(self) -> None:
        """Make them stay."""
        ...

    def abort(self) -> None:
        """Leave no trace."""
        ...


class ListSink:
    """Collects rows and extends a list with them at the end."""

    def __init__(self, target: MutableSequence[Any]) -> None:
        self._target = target
        self._rows: list[Any] = []

    def write(self, rows: Iterable[Any]) -> None:
        """Take rows."""
        self._rows.extend(rows)

    def commit(self) -> None:
        """Extend the list."""
        self._target.extend(self._rows)

    def abort(self) -> None:
        """Leave the list as it was."""
        self._rows.clear()


class RejectList:
    """Keeps refused rows in memory, up to a bound."""

    def __init__(self, name: str, most: int) -> None:
        self.rejects: list[Reject] = []
        self._name = name
        self._most = most

    def add(self, reject: Reject) -> None:
        """Keep a refused row.

        Raises:
            RecordError: There are too many to keep.
        """
        if len(self.rejects) >= self._most:
            raise RecordError(
                "SMW-P152",
                f"the batch job {self._name!r} refused more than {self._most} rows, the last one: {reject.reason}",
                seen=f"row {reject.number}",
                fix='write to a file (to="out.jsonl"): then refused rows go to a file beside it, however many',
            )
        self.rejects.append(reject)

    def commit(self) -> None:
        """Do nothing: the list is the result."""

    def abort(self) -> None:
        """Do nothing: the list ends with the run."""
