"""Tells what a function of the user can never be called with; calls nothing, and lets pass what nobody knows."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["misfit", "misfit_as"]

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _signature(fn: Any) -> inspect.Signature | None:
    """Return what `fn` itself takes, whatever it says that it stands for; None where Python cannot tell."""
    base = fn
    while isinstance(base, functools.partial):
        base = base.func
    if hasattr(base, "__signature__"):
        return None
    try:
        return inspect.signature(fn, follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def misfit(given: Callable[..., object], count: int) -> str | None:
    """Return why `given` can never be called with `count` arguments by position, None where it may be."""
    own = _signature(given)
    return None if own is None else _refusal(own, count, ())


def misfit_as(given: Callable[..., object], fn: Callable[..., object]) -> str | None:
    """Return why `given` fits no call of `fn` when it is handed its arguments, None where it may fit one."""
    own, other = _signature(given), _signature(fn)
    if own is None or other is None or any(each.kind in _VARIADIC for each in other.parameters.values()):
        return None
    refusals = [_refusal(own, count, named) for count, named in _calls(own, other)]
    return None if None in refusals else refusals[-1]


def _calls(own: inspect.Signature, other: inspect.Signature) -> Iterator[tuple[int, list[str]]]:
    """Yield the calls of `other` among which one fits `own` if any does.

    They differ in how many arguments go by position. What may be left out goes by name only if `own` needs it.
    """
    theirs = list(other.parameters.values())
    placed = [each for each in theirs if each.kind in _PLACED]
    filled = [each.name for each in own.parameters.values() if each.kind in _PLACED]
    for count in range(len(placed) + 1):
        rest = placed[count:] + theirs[len(placed) :]
        needed = {
            each.name
            for name, each in own.parameters.items()
            if each.kind in _NAMED and each.default is each.empty and name not in filled[:count]
        }
        named = [each for each in rest if each.default is each.empty or each.name in needed]
        if all(each.kind in _NAMED for each in named):
            yield count, [each.name for each in named]


def _refusal(own: inspect.Signature, count: int, named: Iterable[str]) -> str | None:
    kinds = {name: each.kind for name, each in own.parameters.items()}
    if inspect.Parameter.VAR_KEYWORD in kinds.values():  # takes the names of what goes by position; `bind` denies it
        named = [name for name in named if kinds.get(name) is not inspect.Parameter.POSITIONAL_ONLY]
    try:
        own.bind(*[None] * count, **dict.fromkeys(named))
    except TypeError as error:
        return f"{error}, and it takes {own}"
    return None
