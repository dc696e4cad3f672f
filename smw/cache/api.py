"""The functions and decorators of `smw.cache` that use the current runtime's cache."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from smw._kernel import current
from smw._kernel.chain import advise
from smw._kernel.told import plainly
from smw.cache.coherence.commit import EVERYWHERE
from smw.cache.functions.advice import Cached
from smw.cache.functions.invalidation import Invalidate
from smw.cache.functions.readers import cached_in
from smw.cache.options import checked
from smw.cache.strategies.writing import Writes
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from smw.cache.coherence.bookmark import Token
    from smw.cache.functions.function import CachedFunction
    from smw.cache.options import Auto
    from smw.cache.part import Cache
    from smw.cache.sight.stats import CacheInfo

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["cached", "drop", "drop_sync", "info", "invalidate", "key_for", "on_commit", "reading_after", "writes"]


@plainly("@cached", "@cached(ttl=60)")
def cached(
    ttl: float | timedelta | Literal["auto"] | Auto | Callable[[Any], float | timedelta],
    *,
    tags: Sequence[str | Callable[[Any], str | Iterable[str] | None]] = (),
    key: Callable[..., object] | None = None,
    version: str = "1",
    levels: Sequence[str] = ("l1", "l2", "l3"),
    l1_ttl: float | timedelta | None = None,
    negative_ttl: float | timedelta | None = None,
    cache_exceptions: type[Exception] | tuple[type[Exception], ...] = (),
    condition: Callable[..., object] | None = None,
    unless: Callable[[Any], object] | None = None,
    stale_if_error: float | timedelta = 0,
    refresh_ahead: float | None = None,
    soft_timeout: float | timedelta | None = None,
    hard_timeout: float | timedelta | None = None,
    many: Callable[..., Any] | None = None,
    depends: Literal["auto"] | None = None,
    copy: str = "auto",
    flight: Literal["process", "fleet", "off"] = "fleet",
    warm: Literal["fleet", "off"] | None = None,
    codec: Literal["auto", "json"] = "auto",
) -> Callable[[F], F]:
    """Keep the results of a function, sync or async, in memory and on the configured servers.

    Concurrent calls with the same arguments run the function once. A failing server never fails the call. The only
    errors are those of the function itself.

    Args:
        ttl: Seconds or a timedelta; 0 stores nothing. Or a function of the result that returns either. Or ``"auto"`` or
            `Auto`: learned for each key from how often its value changes.
        tags: Names under which results can be dropped, with fields filled from arguments: ``"user:{user_id}"``. Also
            functions of the result that return such a name (see `tag`), a list of them, or None.
        key: Function of the same arguments that returns what identifies the call.
        version: Part of every key; change it when the meaning of the results changes.
        levels: Which levels may keep results: ``l1`` memory, ``l2`` Redis, ``l3`` memcached.
        l1_ttl: The longest that memory keeps a result.
        negative_ttl: How long a result of None is kept, and an exception of `cache_exceptions`.
        cache_exceptions: Exceptions that memory keeps, and raises again without calling the function.
        condition: Function of the same arguments; a call for which it returns something false goes past the cache.
        unless: Function of the result; one for which it returns something true is not kept.
        stale_if_error: How long after its time a result is handed out where the function raises instead of another one.
        refresh_ahead: After which share of its time a result is loaded anew while everybody gets the present one; 0
            never. None: as chance will have it, the sooner the longer a load takes, where all arguments are values.
        soft_timeout: After how long a caller gets an expired result, if `stale_if_error` has kept one, while the
            function goes on.
        hard_timeout: After how long a caller gets `LoadTimeout` (or an expired result) while the function goes on.
        many: Loads several results at once in place of the function: takes a list of arguments (of tuples, where there
            are several parameters) and returns a mapping from them, or a list in their order. What a mapping leaves out
            is None; an exception in place of a result is raised for that call.
        depends: ``auto`` drops a result together with every result of a cached function that it was made from.
        copy: ``auto`` copies what could be changed, ``share`` hands out one object, ``deep`` copies deeply, ``decode``
            keeps bytes.
        flight: Which concurrent calls with the same arguments share one run of the function: those of the ``fleet``, as
            far as its processes hear each other over Redis, those of a ``process``, or none (``off``). With `many=` no
            process waits for another.
        warm: ``fleet`` has a process that starts fill its memory from L2 with the results that others ask for most,
            before it takes a request; ``off`` does not. None: as the setting `warm` says.
        codec: ``json`` has servers keep results as JSON, for readers in other languages; a result of which JSON makes
            no equal one stays in memory. ``auto``: as msgpack, which keeps types.

    Raises:
        DecorationError: An argument is of the wrong kind, or the function has no result to keep.
        ConfigError: A time is negative.
    """
    options = checked(
        ttl,
        tags=tags,
        key=key,
        version=version,
        levels=levels,
        l1_ttl=l1_ttl,
        negative_ttl=negative_ttl,
        cache_exceptions=cache_exceptions,
        condition=condition,
        unless=unless,
        stale_if_error=stale_if_error,
        refresh_ahead=refresh_ahead,
        soft_timeout=soft_timeout,
        hard_timeout=hard_timeout,
        many=many,
        depends=depends,
        copy=copy,
        flight=flight,
        warm=warm,
        codec=codec,
    )
    return advise(Cached(options, owner=None))


@plainly("@invalidate", '@invalidate(tags=["user:{user_id}"])')
def invalidate(
    *,
    tags: Sequence[str] = (),
    fn: Callable[..., Any] | None = None,
    key: Callable[..., object] | None = None,
    when: Literal["after", "before", "commit"] = "after",
) -> Callable[[F], F]:
    """Drop what a call of the function makes old.

    When the call returns, this process hands out nothing older, whatever the servers do.

    Args:
        tags: As for `cached`; everything under them is dropped.
        fn: A cached function; its result for the arguments of the same names is dropped.
        key: Function of the same arguments that returns those of `fn`: a mapping by name, a tuple of positional ones,
            or a list of such for several results.
        when: ``after`` drops after success. ``before`` drops when the call begins and again when it ends, however it
            ends. ``commit`` drops when the transaction around the call is committed (see `on_commit`), and not when it
            is rolled back; without a transaction it is ``after``.

    Raises:
        DecorationError: A tag is malformed or names no parameter, or `fn` is not cached or takes other arguments.
    """
    return advise(Invalidate(tags, fn=fn, key=key, when=when, owner=None))


@plainly("@writes", "@writes(profile)")
def writes(
    to: Callable[..., Any],
    *,
    strategy: Literal["write_through", "write_around", "write_back"] = "write_through",
    value: Callable[[Any, Mapping[str, Any]], object] | None = None,
    arguments: Callable[..., object] | None = None,
) -> Callable[[F], F]:
    """Keep a cached function in step with its source, on the function that writes the source.

    Args:
        to: The cached function; the writer's arguments of the same names tell which of its results changes.
        strategy: ``write_through`` calls the function and then puts the new value in place of the cached one.
            ``write_around`` calls it and then drops the cached value, and what carries its tags with fields.
            ``write_back`` acknowledges: readers see the new value at once, and the function is called later, in the
            background. The call returns None. With ``CACHE_STATE_DIR`` what is acknowledged survives the process.
        value: Function of (result, arguments by name) that returns what `to` returns from now on; None: the result.
            ``write_back`` needs it, and calls it with None for the result.
        arguments: Function of the same arguments that returns those of `to`, a mapping by name or a tuple of
            positional ones; None takes those of the same names.

    Raises:
        DecorationError: `to` is not cached or takes other arguments, or the function is a generator.
    """
    return advise(Writes(to, strategy=strategy, value=value, arguments=arguments))


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
    found = cached_in(fn)
    if found is not None:
        return found[0].function(found[1])
    name = getattr(fn, "__qualname__", repr(fn))
    raise ConfigError("SMW-C112", f"{name} is not decorated with @cached", fix="pass the decorated function")


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
