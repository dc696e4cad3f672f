"""The functions and decorators of `smw.cache` that use the current runtime's cache."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

from smw._kernel import current
from smw._kernel.told import plainly
from smw.cache.coherence.commit import EVERYWHERE
from smw.cache.decorators import Decorators
from smw.cache.functions.standing import cached_on

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from smw.cache.coherence.bookmark import Token
    from smw.cache.functions.function import CachedFunction
    from smw.cache.part import Cache
    from smw.cache.sight.stats import CacheInfo

__all__ = ["cached", "drop", "drop_sync", "info", "invalidate", "key_for", "on_commit", "reading_after", "writes"]

_ours = Decorators()
cached, invalidate, writes = _ours.cached, _ours.invalidate, _ours.writes


def on_commit(register: Callable[[Callable[[], None]], object]) -> Callable[[], None]:
    """Have ``invalidate(when="commit")`` wait for the transactions of a framework.

    Sessions of SQLAlchemy among the arguments, or on the instance of a method, are found without it.

    Args:
        register: Called with a function without arguments after a decorated call has succeeded. It has that function
            called once the transaction around the call is committed, and never when it is rolled back; it returns
            False where there is no transaction. Django's ``transaction.on_commit`` is one.

    Returns:
        The function that ends it.
    """
    return EVERYWHERE.add(register)


def _part() -> Cache:
    part: Cache = current.part("cache")
    return part


def _function(fn: Any) -> CachedFunction:
    advice, target = cached_on(fn)
    return advice.function(target)


def key_for(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> str:
    """Return the full key under which the result of ``fn(*args, **kwargs)`` is kept.

    Args:
        fn: A function decorated with `cached`, or a method of an object or class.
        args: The call's positional arguments; for a method taken from its class (``Shelf.first``) the instance first.
        kwargs: The call's keyword arguments.

    Raises:
        ConfigError: `fn` is not cached, or this call has no key.
    """
    bound: Any = fn
    owner = (bound.__self__,) if type(fn) is MethodType else ()  # a proxy that stands for one has its object already
    return _function(fn).key_for((*owner, *args), kwargs)


def info(fn: Callable[..., Any], /) -> CacheInfo:
    """Return what a cached function is set to and has done in this process.

    Raises:
        ConfigError: `fn` is not cached.
    """
    return _function(fn).info()


@plainly("drop()", 'drop(tags=["user:7"])')
async def drop(*, tags: Sequence[str] | None = None, keys: Sequence[str] | None = None) -> Token:
    """Drop everything under `tags`, and the results under `keys` (see `key_for`).

    Tags are taken as they are; `tag` fills fields as `cached` and `invalidate` do. Empty lists drop nothing.

    When it returns, this process hands out nothing older; a server that did not answer is told later.

    Returns:
        What readers elsewhere are given to `reading_after`, so that they see nothing older either.

    Raises:
        ConfigError: Neither is given, a tag is no text, or a key is none.
    """
    return await _part().drop(tags=tags, keys=keys)


@plainly("drop_sync()", 'drop_sync(tags=["user:7"])')
def drop_sync(*, tags: Sequence[str] | None = None, keys: Sequence[str] | None = None) -> Token:
    """Drop as `drop` does, from blocking code."""
    return _part().drop_sync(tags=tags, keys=keys)


def reading_after(token: str | None) -> AbstractContextManager[None]:
    """Have what is read in the block be no older than what a drop has made, in any process.

    Memory under what was dropped is confirmed by the servers first, once for each key.

    Args:
        token: What `drop` has returned, of late; anything else, None included, is without effect.
    """
    return _part().reading_after(token)
