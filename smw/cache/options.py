"""What `cached` can be told: each option is checked here, when decorating, and all travel as one; knows no level."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from smw.errors import ConfigError, DecorationError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smw.cache.tags import Template

__all__ = ["LEVELS", "Options", "checked"]

LEVELS = ("l1", "l2", "l3")
COPIES = ("auto", "share", "deep", "decode")
_MOST_TTL_S = 10 * 365 * 86_400.0
_MOST_TAGS = 100
_FORM = "@cached(ttl=60)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What one `cached` was told, checked.

    Attributes:
        ttl_s: Time to live.
        tags: Tags of every result.
        key: The user's key function, or None.
        version: Part of every key.
        levels: Levels that may keep results, in the order in which they are asked.
        copy: How hits are kept apart from each other.
    """

    ttl_s: float
    tags: tuple[Template, ...]
    key: Callable[..., object] | None
    version: str
    levels: tuple[str, ...]
    copy: str


def checked(
    ttl: object,
    *,
    tags: Sequence[str] = (),
    key: object = None,
    version: str = "1",
    levels: Sequence[str] = LEVELS,
    copy: str = "auto",
) -> Options:
    """Return the options of `cached`; called by it directly, for warnings are shown at its caller.

    Raises:
        DecorationError: An option is of the wrong kind.
        ConfigError: A number lies outside of what it may be.
    """
    from smw.cache.tags import templates

    ttl_s = _checked_ttl(ttl)
    made = templates(tags)
    if len(made) > _MOST_TAGS:
        raise DecorationError("SMW-C106", f"more than {_MOST_TAGS} tags", fix="invalidate by a common tag")
    return Options(
        ttl_s=ttl_s,
        tags=made,
        key=_checked_key(key),
        version=str(version),
        levels=_checked_levels(levels),
        copy=_checked_copy(copy),
    )


def _checked_ttl(ttl: object) -> float:
    if callable(ttl):
        raise DecorationError("SMW-C101", "@cached stands without parentheses", fix=f"write {_FORM}")
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        fix = f"{_FORM}, or ttl=timedelta(minutes=1)"
        raise DecorationError("SMW-C102", "ttl= takes seconds or a timedelta", seen=repr(ttl), fix=fix)
    if math.isnan(ttl) or ttl < 0:
        raise ConfigError("SMW-C103", "ttl= must not be negative", seen=ttl, fix=f"{_FORM}; ttl=0 stores nothing")
    if ttl > _MOST_TTL_S:
        warnings.warn(f"ttl={ttl} is more than ten years and is cut to that", stacklevel=4)
    return min(float(ttl), _MOST_TTL_S)


def _checked_key(key: object) -> Callable[..., object] | None:
    if key is None or callable(key):
        return key
    fix = "key=lambda user_id: user_id"
    raise DecorationError("SMW-C108", "key= takes a function", seen=repr(key), fix=fix)


def _checked_levels(levels: object) -> tuple[str, ...]:
    if isinstance(levels, str) or not isinstance(levels, list | tuple | set | frozenset) or not levels:
        raise DecorationError("SMW-C104", "levels= takes names of levels", seen=repr(levels), fix='levels=("l1", "l2")')
    for level in levels:
        if level not in LEVELS:
            what = f"unknown level {level!r}; known: {', '.join(LEVELS)}.{nearest(str(level), LEVELS)}"
            raise DecorationError("SMW-C104", what, fix='levels=("l1", "l2")')
    return tuple(level for level in LEVELS if level in levels)


def _checked_copy(copy: object) -> str:
    if copy not in COPIES:
        what = f"unknown copy mode {copy!r}; known: {', '.join(COPIES)}.{nearest(str(copy), COPIES)}"
        raise DecorationError("SMW-C105", what, fix='copy="auto"')
    return str(copy)
