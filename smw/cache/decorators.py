"""The decorators of the cache, each spelled once: those of a `Cache`, and those of the current runtime's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

from smw._kernel.chain import advise
from smw._kernel.told import plainly
from smw.cache.functions.advice import Cached
from smw.cache.functions.invalidation import Invalidate
from smw.cache.options import checked
from smw.cache.strategies.writing import Writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import timedelta

    from smw.cache.options import Auto
    from smw.cache.part import Cache

F = TypeVar("F", bound="Callable[..., Any]")

__all__ = ["Decorators"]


def _form(call: str) -> Callable[[Decorators], str]:
    """Return what says how a decorator is written: as the name that was imported, or as a method of a cache."""
    return lambda of: f"@{'' if of._owner() is None else 'cache.'}{call}"  # noqa: SLF001 - its own


class Decorators:
    """What stands on functions; without a cache of their own it is that of the current runtime at each call."""

    def _owner(self) -> Cache | None:
        return None

    @plainly("@cached", _form("cached(ttl=60)"))
    def cached(
        self,
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
            ttl: Seconds or a timedelta; 0 stores nothing. Or a function of the result that returns either. Or
                ``"auto"`` or `Auto`: learned for each key from how often its value changes.
            tags: Names under which results can be dropped, with fields filled from arguments: ``"user:{user_id}"``.
                Also functions of the result that return such a name (see `tag`), a list of them, or None.
            key: Function of the same arguments that returns what identifies the call.
            version: Part of every key; change it when the meaning of the results changes.
            levels: Which levels may keep results: ``l1`` memory, ``l2`` Redis, ``l3`` memcached.
            l1_ttl: The longest that memory keeps a result.
            negative_ttl: How long a result of None is kept, and an exception of `cache_exceptions`.
            cache_exceptions: Exceptions that memory keeps, and raises again without calling the function.
            condition: Function of the same arguments; a call for which it returns something false goes past the cache.
            unless: Function of the result; one for which it returns something true is not kept.
            stale_if_error: How long after its time a result is handed out where the function raises instead of another
                one.
            refresh_ahead: After which share of its time a result is loaded anew while everybody gets the present one; 0
                never. None: as chance will have it, the sooner the longer a load takes, where all arguments are values.
            soft_timeout: After how long a caller gets an expired result, if `stale_if_error` has kept one, while the
                function goes on.
            hard_timeout: After how long a caller gets `LoadTimeout` (or an expired result) while the function goes on.
            many: Loads several results at once in place of the function: takes a list of arguments (of tuples, where
                there are several parameters) and returns a mapping from them, or a list in their order. What a mapping
                leaves out is None; an exception in place of a result is raised for that call.
            depends: ``auto`` drops a result together with every result of a cached function that it was made from.
            copy: ``auto`` copies what could be changed, ``share`` hands out one object, ``deep`` copies deeply,
                ``decode`` keeps bytes.
            flight: Which concurrent calls with the same arguments share one run of the function: those of the
                ``fleet``, as far as its processes hear each other over Redis, those of a ``process``, or none
                (``off``). With `many=` no process waits for another.
            warm: ``fleet`` has a process that starts fill its memory from L2 with the results that others ask for most,
                before it takes a request; ``off`` does not. None: as the setting `warm` says.
            codec: ``json`` has servers keep results as JSON, for readers in other languages; a result of which JSON
                makes no equal one stays in memory. ``auto``: as msgpack, which keeps types.

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
        return advise(Cached(options, owner=self._owner()))

    @plainly("@invalidate", _form('invalidate(tags=["user:{user_id}"])'))
    def invalidate(
        self,
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
            key: Function of the same arguments that returns those of `fn`: a mapping by name, a tuple of positional
                ones, or a list of such for several results.
            when: ``after`` drops after success. ``before`` drops when the call begins and again when it ends, however
                it ends. ``commit`` drops when the transaction around the call is committed (see `on_commit`), and not
                when it is rolled back; without a transaction it is ``after``.

        Raises:
            DecorationError: A tag is malformed or names no parameter, or `fn` is not cached or takes other arguments.
        """
        return advise(Invalidate(tags, fn=fn, key=key, when=when, owner=self._owner()))

    @plainly("@writes", _form("writes(profile)"))
    def writes(
        self,
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
