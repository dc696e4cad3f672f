"""Finds what stands on a function that somebody names, `cached` among it; calls nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from smw._kernel.chain import stack_of
from smw.cache.functions.readers import cached_in
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from smw._kernel.call import Call, Target
    from smw._kernel.chain import Bound, Proceed
    from smw.cache.functions.advice import Cached

    Around = Callable[[Call, Proceed], Awaitable[Any]]

__all__ = ["Steps", "cached_on", "steps_on"]


class Steps(NamedTuple):
    """What the decorators of a cached function do around it; those that do nothing are left out.

    Attributes:
        cached: The `cached` among them.
        target: What they stand on.
        above: What stands above it, the outermost first.
        own: What it does itself, or None.
        below: What stands below.
    """

    cached: Cached
    target: Target
    above: tuple[Around, ...]
    own: Around | None
    below: tuple[Around, ...]


def cached_on(fn: Any) -> tuple[Cached, Target]:
    """Return the `cached` of a function, and what it stands on.

    Raises:
        ConfigError: There is none.
    """
    found = cached_in(fn)
    if found is None:
        name = getattr(fn, "__qualname__", repr(fn))
        raise ConfigError("SMW-C112", f"{name} is not decorated with @cached", fix="pass the decorated function")
    return found


def steps_on(fn: Any) -> Steps:
    """Return what the decorators of a function do, bound to the parts of the current runtime.

    Raises:
        ConfigError: `cached` is none of them.
    """
    (cached, target), stack = cached_on(fn), stack_of(fn)
    assert stack is not None  # noqa: S101 - in which `cached` was found
    while (bound := stack.bound) is None:
        stack.bind()
    at = stack.advices.index(cached)
    own = bound[at]
    return Steps(cached, target, _around(bound[:at]), None if own is None else own.around, _around(bound[at + 1 :]))


def _around(bound: Sequence[Bound | None]) -> tuple[Around, ...]:
    return tuple([step.around for step in bound if step is not None])
