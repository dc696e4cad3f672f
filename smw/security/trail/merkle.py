"""The RFC 6962 / RFC 9162 hash tree over log lines, kept as a frontier; knows neither files nor what a line says."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["EMPTY_ROOT", "Tree", "leaf_hash", "node_hash"]

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(line: bytes) -> bytes:
    """Return SHA-256(0x00 || line)."""
    return sha256(b"\x00" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A growing tree, of which only the roots of its complete subtrees are kept: one hash per set bit of its size.

    Args:
        size: Leaves so far.
        frontier: Roots of the complete subtrees, largest first; one for each set bit of `size`.

    Raises:
        ValueError: `frontier` does not fit `size`.
    """

    __slots__ = ("_frontier", "size")

    def __init__(self, size: int = 0, frontier: Sequence[bytes] = ()) -> None:
        if size < 0 or len(frontier) != size.bit_count() or any(len(node) != HASH_BYTES for node in frontier):
            msg = "the frontier does not fit the size"
            raise ValueError(msg)
        self.size = size
        self._frontier = list(frontier)

    @property
    def frontier(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees, largest first."""
        return tuple(self._frontier)

    def append(self, line: bytes) -> None:
        """Add one line as the next leaf."""
        node = sha256(b"\x00" + line).digest()
        frontier = self._frontier
        size = self.size
        while size & 1:
            node = sha256(b"\x01" + frontier.pop() + node).digest()
            size >>= 1
        frontier.append(node)
        self.size += 1

    def extend(self, lines: Iterable[bytes]) -> None:
        """Add several lines in order."""
        for line in lines:
            self.append(line)

    def copy(self) -> Tree:
        """Return an independent tree of the same content."""
        return Tree(self.size, self._frontier)

    def root(self) -> bytes:
        """Return the root hash of all leaves so far."""
        if not self._frontier:
            return EMPTY_ROOT
        node = self._frontier[-1]
        for left in reversed(self._frontier[:-1]):
            node = node_hash(left, node)
        return node
