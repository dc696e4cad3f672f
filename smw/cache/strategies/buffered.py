"""Has what is acknowledged from memory alone finished when its process ends by itself; knows no journal."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from smw._kernel.ending import at_exit

if TYPE_CHECKING:
    from smw.cache.strategies.behind import WriteBehind

__all__ = ["finish_at_exit"]

_living: weakref.WeakSet[WriteBehind] = weakref.WeakSet()


def finish_at_exit(behind: WriteBehind) -> None:
    """Have a cache that nobody has closed by then write what waits when the interpreter ends."""
    _living.add(behind)


def _finish_all() -> None:
    for behind in tuple(_living):
        behind.close()


at_exit(_finish_all)
