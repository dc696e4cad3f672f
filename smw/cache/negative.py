"""Keeps an exception as an entry of memory that raises when it is read; knows no level."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NoReturn

from smw.cache.copies import Held

if TYPE_CHECKING:
    from smw.cache.stats import Stats

__all__ = ["kept_exception"]

_BYTES = 500
"""What an exception is taken to cost."""
_CONTAINERS = (list, dict, set)


def kept_exception(error: Exception, stats: Stats) -> Held | None:
    """Return the form for memory of an exception: every reader gets a copy of its own, raised where it stands.

    It is None for one that cannot be copied.

    Args:
        error: What the function has raised.
        stats: Where reading it is counted.
    """

    def again(kept: Exception) -> NoReturn:
        stats.hits -= 1  # whoever reads an entry has counted a hit
        stats.others["l1", "negative"] += 1
        raise _copied(kept)

    try:
        kept = _copied(error)
        _copied(kept)
    except Exception:  # noqa: BLE001 - whatever its class forbids; the caller is to get the exception itself
        return None
    return Held(kept, again, _BYTES)


def _copied(error: Exception) -> Exception:
    """Return an equal exception without traceback, cause and context, which would hold the frames of a call."""
    try:
        made = copy.copy(error)
    except Exception:  # noqa: BLE001 - a constructor of its own that takes other arguments
        made = type(error).__new__(type(error))
    state: Any = object.__getstate__(error)
    for attributes in state if isinstance(state, tuple) else (state,):
        for name, value in (attributes or {}).items():
            own = value.copy() if type(value) in _CONTAINERS else value  # notes of one reader are no other's
            object.__setattr__(made, name, own)  # a frozen dataclass refuses every other way
    object.__setattr__(made, "args", error.args)
    for name in ("__traceback__", "__cause__", "__context__"):
        object.__setattr__(made, name, None)
    return made
