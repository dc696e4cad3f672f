"""Reads counters as Redis returns them; what somebody else has written in the place of one counts as missing."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from smw.cache.values.envelope import MAGIC

__all__ = ["number_of"]

_REMEMBERED = 1024
_MOST_DIGITS = 16
_MOST = 2**53
"""What Lua, which counts in doubles, can add one to."""


@lru_cache(maxsize=_REMEMBERED)  # with each hit comes the same number of its tags
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
    is_ours = raw.isdigit() and len(raw) <= _MOST_DIGITS and int(raw) < _MOST and not raw.startswith(b"0")
    return int(raw) if is_ours else None
