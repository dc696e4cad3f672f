"""The port between the audit log and where its lines live; it decides nothing about what a line says or when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smw.security.trail.merkle import Tree

__all__ = ["AuditStore"]


class AuditStore(Protocol):
    """Keeps the lines of one log and its latest checkpoint.

    Only the log's one writer changes it, never two threads at a time, so its methods block. Every implementation
    passes `tests/contract/test_audit_store.py`.

    Attributes:
        log_id: Unique name of the log.
        durable: Lines survive the process. A log kept in memory says False, and controls that need a record refuse.
        tree: The hash tree over exactly the lines that are written.
        found: How the log was found when it was opened, for its first record: `cut_bytes` of a torn tail and
            `adopted` lines that a crash had left behind the checkpoint. Empty for a clean or new log.
    """

    log_id: str
    durable: bool
    tree: Tree
    found: dict[str, int]

    def append(self, lines: Sequence[bytes]) -> None:
        """Write lines (without their newline) and return when they are durable.

        Raises:
            OSError: None of them counts as written; the store refuses further lines until `recover` succeeds.
        """
        ...

    def checkpoint(self, text: str) -> None:
        """Replace the checkpoint, atomically and durably.

        Raises:
            OSError: The old checkpoint stands.
        """
        ...

    def recover(self) -> None:
        """After a failed `append`: cut back to what is durable, check it, and continue in a fresh place.

        Raises:
            OSError: The store is still broken.
        """
        ...

    def lines(self) -> Iterator[bytes]:
        """Yield the written lines in order; a bounded store only the last ones."""
        ...

    def close(self) -> None:
        """Give the log free for another writer; idempotent."""
        ...
