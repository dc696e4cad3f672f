"""Reads counters as Redis returns them; what somebody else has written in the place of one counts as missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smw.cache.envelope import MAGIC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw.cache.ports import Counters

__all__ = ["counters_of", "number_of"]

_USUAL_DIGITS = 16
_MOST = 2**53
"""What Lua, which counts in doubles, can add one to."""


def counters_of(raws: Sequence[Any]) -> Counters:
    """Return the counters of a reply.

    Raises:
        TypeError, ValueError: It is the reply to another question.
    """
    try:
        joined = b"".join(raws)
        if joined.isdigit() and len(joined) <= _USUAL_DIGITS * len(raws):  # the usual case, all at once
            return tuple(map(int, raws))
    except (TypeError, ValueError):
        pass  # one is missing, or none of ours
    return tuple(map(number_of, raws))


def number_of(raw: Any) -> int | None:
    """Return the number of one counter; None where it is missing, or holds something that none of ours does.

    Raises:
        TypeError, ValueError: It is the reply to another question.
    """
    if raw is None:
        return None
    if raw.__class__ is not bytes:
        raise TypeError(type(raw).__name__)
    if raw.startswith(MAGIC):
        raise ValueError("a value in the place of a counter")
    return int(raw) if raw.isdigit() and len(raw) <= _USUAL_DIGITS and int(raw) < _MOST else None
