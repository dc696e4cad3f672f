"""An audit store in memory, bounded: for development and tests; it survives nothing and says so."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from smw.security.trail.merkle import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keeps the last lines of a log in memory.

    Args:
        log_id: Unique name of the log.
        keep: How many lines are kept; older ones fall out, the tree still covers them.
    """

    def __init__(self, log_id: str, *, keep: int = 10_000) -> None:
        self.log_id = log_id
        self.durable = False
        self.tree = Tree()
        self.found: dict[str, int] = {}
        self.latest = ""
        self._lines: deque[bytes] = deque(maxlen=keep)

    def append(self, lines: Sequence[bytes]) -> None:
        """Keep the lines."""
        self._lines.extend(lines)
        self.tree.extend(lines)

    def checkpoint(self, text: str) -> None:
        """Keep the checkpoint."""
        self.latest = text

    def recover(self) -> None:
        """Do nothing: memory does not fail half-way."""

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that are still kept."""
        yield from tuple(self._lines)

    def close(self) -> None:
        """Do nothing: nobody else can open this log."""
