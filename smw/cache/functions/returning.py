"""Tells from a return annotation whether results could ever be kept; calls nothing and knows no cache."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Any

from smw.cache.values.copies import is_binding

__all__ = ["unkeepable"]

_WORTH_A_LOOK = re.compile(r"(?i:iterator|generator|file|lock|event|condition|semaphore|barrier|queue)|IO")
"""Annotations may be texts, whose evaluation costs something and may fail; most name nothing of the kind."""
_FACTORIES = frozenset({"_thread", "threading"})


def unkeepable(fn: Any, copy: str) -> str | None:
    """Return what is wrong with every result that the annotation allows, None where some may be kept, or nobody knows.

    Args:
        fn: The function.
        copy: How hits are kept apart; what is shared as it is may bind others.
    """
    given = getattr(fn, "__annotations__", {}).get("return")
    if given is None or not _WORTH_A_LOOK.search(given if isinstance(given, str) else repr(given)):
        return None
    try:
        hint = typing.get_type_hints(fn).get("return")
    except Exception:  # noqa: BLE001 - names that only a type checker knows
        return None
    found = [_wrong(each, copy) for each in _alternatives(hint)]
    return found[0] if found and all(found) else None


def _alternatives(hint: Any) -> list[Any]:
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _alternatives(hint.__origin__)
    if origin in {typing.Union, types.UnionType}:
        parts = [part for part in typing.get_args(hint) if part is not types.NoneType]
        return [each for part in parts for each in _alternatives(part)]
    return [origin or hint]


def _wrong(kind: Any, copy: str) -> str | None:
    if not isinstance(kind, type):  # before Python 3.13 threading.Lock is a function
        is_lock = callable(kind) and getattr(kind, "__module__", "") in _FACTORIES
        return "copies of it bind nobody" if is_lock and copy != "share" else None
    if issubclass(kind, Iterator | AsyncIterator | typing.IO):
        return "it is used up by reading it"
    return "copies of it bind nobody" if copy != "share" and is_binding(kind) else None
