"""Checks that a call would be answered from the cache, and says what each level holds where it would not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smw.cache import key_for
from smw.cache.functions.readers import cached_in
from smw.runtime import current

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["assert_cached"]


def assert_cached(fn: Callable[..., Any], /, *args: Any, level: str | None = None, **kwargs: Any) -> None:
    """Fail unless the cache could answer ``fn(*args, **kwargs)`` now; calls nothing and changes nothing.

    Args:
        fn: A function decorated with `cached`.
        args: The call's positional arguments; the instance first for methods.
        level: The level that must hold it: ``l1``, ``l2`` or ``l3``; None for any.
        kwargs: The call's keyword arguments.

    Raises:
        AssertionError: It could not; tells what each level holds, and why that would not do.
        ConfigError: `fn` is not cached, or this call has no key.
    """
    key = key_for(fn, *args, **kwargs)
    found = cached_in(fn)
    owner = found[0].owner if found is not None else None
    story = (owner or current().cache).why_sync(key)
    if level is None:
        good = story.served_by is not None
    else:
        good = any(row.stands for row in story.levels if row.level == level)
    if not good:
        wanted = "no level" if level is None else f"not {level}"
        raise AssertionError(f"{wanted} would answer this call:\n{story}")
