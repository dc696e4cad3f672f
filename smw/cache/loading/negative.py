"""Keeps an exception as an entry of memory that raises when it is read; knows no level."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NoReturn

from smw.cache.values.copies import Held, survey

if TYPE_CHECKING:
    from smw.cache.sight.stats import Stats

__all__ = ["kept_exception"]


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
    return Held(kept, again, survey(kept).size)


def _copied(error: BaseException) -> Any:
    """Return an equal exception without traceback, cause and context, which would hold the frames of a call.

    Containers among its arguments and attributes are copied, and the exceptions of a group as it is; other objects are
    shared, as they may be a response or a connection.
    """
    kind: Any = type(error)
    state: Any = object.__getstate__(error)
    if isinstance(error, BaseExceptionGroup):
        made = kind(error.message, [_copied(each) for each in error.exceptions])
    else:
        try:
            made = copy.copy(error)
        except Exception:  # noqa: BLE001 - a constructor of its own that takes other arguments
            made = kind.__new__(kind)
        object.__setattr__(made, "args", _own(error.args))
    for attributes in state if isinstance(state, tuple) else (state,):
        for name, value in (attributes or {}).items():
            object.__setattr__(made, name, _own(value))  # a frozen dataclass refuses every other way
    for name in ("__traceback__", "__cause__", "__context__"):
        object.__setattr__(made, name, None)
    return made


def _own(value: Any) -> Any:
    """Return `value` with containers of its own, so that what one reader notes there is no other's."""
    kind = type(value)
    if kind is dict:
        return {key: _own(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(map(_own, value))
    if kind is set:
        return value.copy()
    return _copied(value) if isinstance(value, BaseException) else value
