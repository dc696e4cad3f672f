"""What a function of the user answers at once, and which functions do; decides nothing with the answer."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeGuard

from smw._kernel.call import Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AwaitableAnswerError", "answered", "answers_at_once"]


class AwaitableAnswerError(TypeError):
    """A function answered with something to await, which is true whatever it would have come to."""


def answers_at_once(given: object) -> TypeGuard[Callable[..., Any]]:
    """Tell whether `given` can be called and is no coroutine function, nor a generator."""
    return callable(given) and kind_of(given) is Kind.SYNC


def answered(given: Any) -> Any:
    """Return what a function has answered.

    Raises:
        AwaitableAnswerError: It has to be awaited.
    """
    if given is True or given is False or not hasattr(type(given), "__await__"):
        return given
    if inspect.iscoroutine(given):
        given.close()  # or Python complains that nobody has awaited it
    raise AwaitableAnswerError(type(given).__name__)
