"""Loads a result anew although it may still stand, and puts it in the place of that; readers keep it until then."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from contextvars import ContextVar
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any

from smw._kernel.bridge import in_thread, on_asyncio
from smw._kernel.drive import fuse, runner_of
from smw._kernel.flight import recursive
from smw.cache.coherence.collecting import tell
from smw.cache.functions.standing import steps_on
from smw.cache.naming.arguments import UnkeyableError
from smw.cache.strategies.replacing import look_before, replace
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from smw._kernel.call import Call
    from smw._kernel.chain import Proceed
    from smw.cache.functions.function import CachedFunction
    from smw.cache.naming.place import Place

__all__ = ["refresh", "refresh_sync"]


class _Refresh:
    """One that is under way; tasks that it has started may outlive it.

    Args:
        function: What is refreshed.
        place: Where its result belongs.
    """

    __slots__ = ("is_over", "of")

    def __init__(self, function: CachedFunction, place: Place) -> None:
        self.of = function, id(place.home), place.key
        self.is_over = False


_under_way: ContextVar[tuple[_Refresh, ...]] = ContextVar("smw_cache_refreshes", default=())


async def refresh(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a cached function although a level has its result, and put the new one in the place of that.

    Until then readers get the present result. From then on all processes have the new one, as after a drop; a load that
    began before is not stored. All decorators of the function apply. A blocking function runs in a thread.

    Args:
        fn: A function decorated with `cached`, or a method of an object or class.
        args: The call's positional arguments.
        kwargs: The call's keyword arguments.

    Returns:
        The new result.

    Raises:
        ConfigError: `fn` is not cached.
        Exception: What the function raises; the present result stays, unless `cache_exceptions` tells of it.
    """
    if not inspect.iscoroutinefunction(fn):
        return await in_thread(partial(refresh_sync, fn, *args, **kwargs))
    return await _called(fn, args, kwargs)


def refresh_sync(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Refresh as `refresh` does, from blocking code; an async function runs in an event loop of its own.

    Raises:
        ConfigError: `fn` is not cached, or is async where an event loop runs in this thread.
        Exception: What the function raises.
    """
    if inspect.iscoroutinefunction(fn):
        if on_asyncio():
            what = "refresh_sync would block a running event loop"
            raise ConfigError("SMW-C178", what, fix="await cache.refresh(...)")
        return asyncio.run(refresh(fn, *args, **kwargs))
    return _called(fn, args, kwargs)


def _called(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what a call brings in which `cached` loads whatever stands."""
    steps = steps_on(fn)
    own = () if steps.own is None else (partial(_refreshed, steps.cached.function(steps.target)),)
    owner = (fn.__self__,) if type(fn) is MethodType else ()
    chain = fuse((*steps.above, *own, *steps.below), steps.target.kind)
    return runner_of(chain, steps.target)((*owner, *args), kwargs)


async def _refreshed(function: CachedFunction, call: Call, proceed: Proceed) -> Any:
    """Load, and have all processes take the new value for the present one."""
    if function.many is not None:
        proceed = function.many.loading(call)
    place = function.placed(call)
    if place is None:
        return await _past(function, call, proceed)
    with _alone(function, place):
        return await _replaced(function, place, call, proceed)


@contextlib.contextmanager
def _alone(function: CachedFunction, place: Place) -> Iterator[None]:
    """Refuse a refresh that its own load asks for: it would never end."""
    outer, own = _under_way.get(), _Refresh(function, place)
    if any(each.of == own.of and not each.is_over for each in outer):
        raise recursive(function.target.name)
    token = _under_way.set((*outer, own))
    try:
        yield
    finally:
        own.is_over = True
        with contextlib.suppress(ValueError):  # ended by the garbage collector, in another context
            _under_way.reset(token)


async def _past(function: CachedFunction, call: Call, proceed: Proceed) -> Any:
    """Call the function; where the cache is switched off, processes where it is not drop the present result."""
    value = await proceed()
    if function.policy.is_off:
        with contextlib.suppress(UnkeyableError, TypeError):
            await function.drop(function.place(call), call.mode)
    return value


async def _replaced(function: CachedFunction, place: Place, call: Call, proceed: Proceed) -> Any:
    engine, policy = function.engine, function.policy
    before = await look_before(engine, place, policy, call.mode)
    place, load = function.collected(call, place, function.loader(call, place, proceed))
    try:
        value = await load()
    except function.kept_classes:  # an answer, which the present result contradicts
        await function.drop(place, call.mode)
        raise
    except Exception:  # counted, and raised again to who asked for the refresh
        function.stats.refreshes["failed"] += 1
        raise
    if await replace(engine, place, policy, value, before=before, mode=call.mode):
        function.adopt(call, place)
    function.stats.refreshes["ok"] += 1
    tell(engine, place, None)
    return value
