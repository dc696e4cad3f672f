"""Tells from a return annotation whether results could ever be kept; calls nothing and knows no cache."""

from __future__ import annotations

import re
import threading
import types
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

from smw.cache.values.copies import is_binding

__all__ = ["Unkeepable", "says_none", "unkeepable"]

_USED_UP = "it is used up by reading it", "return values, such as a list of what it yields"
_BINDING = "copies of it bind nobody", 'copy="share" hands out the one object, from memory; or return values'

_WORTH_A_LOOK = re.compile(r"(?i:iterator|generator|file|lock|event|condition|semaphore|barrier|queue)|IO")
"""Annotations may be texts, whose evaluation costs something and may fail; most name nothing of the kind."""
_FACTORIES = frozenset({"_thread", "threading"})


class Unkeepable(NamedTuple):
    """What no result of a function can be kept for.

    Attributes:
        annotation: What the function says it returns.
        why: What is wrong with that.
        fix: What to do about it.
    """

    annotation: str
    why: str
    fix: str


def unkeepable(fn: Any, copy: str) -> Unkeepable | None:
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
    first = found[0] if found and all(found) else None
    return None if first is None else Unkeepable(_named(given), *first)


def says_none(fn: Any) -> bool:
    """Tell whether the annotation says that `fn` may return None; what cannot be resolved does not."""
    from smw.cache.values.typed import returned

    hint, _ = returned(fn)
    is_union = typing.get_origin(hint) in {typing.Union, types.UnionType}
    return types.NoneType in (typing.get_args(hint) if is_union else (hint,))


def _named(given: Any) -> str:
    """Return an annotation as somebody may have written it."""
    if given is threading.Lock:  # before Python 3.13 it has another name of its own
        return "threading.Lock"
    is_plain = isinstance(given, type | types.FunctionType)
    return f"{given.__module__}.{given.__qualname__}" if is_plain else given if isinstance(given, str) else repr(given)


def _alternatives(hint: Any) -> list[Any]:
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _alternatives(hint.__origin__)
    if origin in {typing.Union, types.UnionType}:
        parts = [part for part in typing.get_args(hint) if part is not types.NoneType]
        return [each for part in parts for each in _alternatives(part)]
    return [origin or hint]


def _wrong(kind: Any, copy: str) -> tuple[str, str] | None:
    if not isinstance(kind, type):  # before Python 3.13 threading.Lock is a function
        is_lock = callable(kind) and getattr(kind, "__module__", "") in _FACTORIES
        return _BINDING if is_lock and copy != "share" else None
    if issubclass(kind, Iterator | AsyncIterator | typing.IO):
        return _USED_UP
    return _BINDING if copy != "share" and is_binding(kind) else None
