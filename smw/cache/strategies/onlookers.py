"""Says whether this process only looks at what others have left, as commands do; knows no journal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["looking_on", "only_looks"]

_blocks: list[None] = []


@contextmanager
def looking_on() -> Iterator[None]:
    """Leave to other processes, in this block, what dead ones have left: for commands that only look."""
    _blocks.append(None)
    try:
        yield
    finally:
        _blocks.pop()


def only_looks() -> bool:
    """Return whether such a block is under way."""
    return bool(_blocks)
