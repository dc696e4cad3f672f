"""Says in smw's own words which arguments a public function does not take; knows no function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from smw.errors import ConfigError, DecorationError, nearest

__all__ = ["plainly"]

F = TypeVar("F", bound=Callable[..., Any])
_P = inspect.Parameter


def plainly(shown: str, example: str | Callable[[Any], str]) -> Callable[[F], F]:
    """Turn Python's complaint about the arguments of a call into an error that names the nearest right one.

    Args:
        shown: What the function is called; with ``@`` in front it is a decorator.
        example: A call that is right; for a method it may be a function of the object.
    """

    def decorate(fn: F) -> F:
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def awaiting(*args: Any, **kwargs: Any) -> Any:
                try:
                    return await fn(*args, **kwargs)
                except TypeError as error:
                    mended = _mended(error, fn, args, kwargs, shown=shown, example=example)
                    if mended is None:
                        raise
                    raise mended from None

            return cast("F", awaiting)

        @functools.wraps(fn)
        def told(*args: Any, **kwargs: Any) -> Any:
            try:
                return fn(*args, **kwargs)
            except TypeError as error:
                mended = _mended(error, fn, args, kwargs, shown=shown, example=example)
                if mended is None:
                    raise
                raise mended from None

        return cast("F", told)

    return decorate


def _mended(
    error: TypeError,
    fn: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    shown: str,
    example: str | Callable[[Any], str],
) -> DecorationError | ConfigError | None:
    """Return what is raised in place of `error`; None where the function had begun to run."""
    if error.__traceback__ is None or error.__traceback__.tb_next is not None:
        return None
    parameters = list(inspect.signature(fn).parameters.values())
    example = example if isinstance(example, str) else example(args[0])
    if parameters and parameters[0].name == "self":
        parameters, args = parameters[1:], args[1:]
    what, fix = _wrong(parameters, args, kwargs, shown, example)
    kind = DecorationError if shown.startswith("@") else ConfigError
    return kind("SMW-K126", what, fix=fix)


def _wrong(
    parameters: list[_P], args: tuple[Any, ...], kwargs: Mapping[str, Any], shown: str, example: str
) -> tuple[str, str]:
    """Return what is wrong with the arguments, and the line that mends it."""
    names = [parameter.name for parameter in parameters]
    for name in kwargs:
        if name not in names:
            return f"{shown} has no argument {name!r}.{nearest(name, names)}", f"one of: {', '.join(names)}"
    positional = [parameter.name for parameter in parameters if parameter.kind is not _P.KEYWORD_ONLY]
    if len(args) > len(positional):
        if shown.startswith("@") and len(args) == 1 and callable(args[0]) and not kwargs:
            return f"{shown} stands without parentheses", f"write {example}"
        most = f"no more than {len(positional)}" if positional else "no"
        return f"{shown} takes {most} argument{'s' * (len(positional) != 1)} without a name", f"write {example}"
    twice = next((name for name in positional[: len(args)] if name in kwargs), None)
    if twice is not None:
        return f"{shown} was given {twice!r} twice, by place and by name", f"write {example}"
    missing = [p.name for p in parameters[len(args) :] if p.default is _P.empty and p.name not in kwargs]
    return f"{shown} needs {', '.join(f'{name}=' for name in missing)}", f"write {example}"
