"""Every cache that can keep a function's results, each as its documentation sets it up; measures nothing itself."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from benchmarks._peers import TTL_S, Mode, Place, optional, peers_on
from smw.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Contestant", "in_memory", "on_servers", "ours"]

SIZE = 1000
TAG = "playlist"
async_lru, cachebox = optional("async_lru"), optional("cachebox")
cachetools, theine = optional("cachetools"), optional("theine")


@dataclass(frozen=True)
class Contestant:
    """One cache.

    Args:
        name: The package and where it keeps values.
        mode: The kind of functions that it decorates.
        cached: Decorates a function; None where the package is not installed.
        drop: Drops what the decorated function, the first argument, has kept for the others; awaited.
        close: Gives connections back; awaited.
    """

    name: str
    mode: Mode
    cached: Callable[[Any], Any] | None
    drop: Callable[..., Awaitable[object]]
    close: Callable[[], Awaitable[object]]


async def _nothing() -> None:
    pass


def _dropping(drop: Callable[..., object]) -> Callable[..., Awaitable[object]]:
    async def dropped(fn: Any, *args: Any) -> None:
        drop(fn, *args)

    return dropped


def _cachetools(fn: Any) -> Any:
    condition = threading.Condition()
    return cachetools.cached(cachetools.TTLCache(SIZE, TTL_S), condition=condition)(fn)


def _cachebox(fn: Any) -> Any:
    return cachebox.cached(cachebox.TTLCache(SIZE, TTL_S))(fn)


def _theine(fn: Any) -> Any:
    memoize = theine.Memoize(SIZE, timedelta(seconds=TTL_S))
    wrapped = memoize(fn)
    _theines[wrapped] = memoize.cache
    return wrapped


_theines: dict[Any, Any] = {}


def in_memory(mode: Mode) -> list[Contestant]:
    """Return the peers that keep values in this process, for this kind of functions."""
    both = [
        Contestant("cachebox", mode, cachebox and _cachebox, _dropping(lambda fn, *_: fn.cache_clear()), _nothing),
        Contestant("theine", mode, theine and _theine, _dropping(lambda fn, *_: _theines[fn].clear()), _nothing),
    ]
    if mode == "async":
        kept = async_lru and async_lru.alru_cache(maxsize=SIZE, ttl=TTL_S)
        return [Contestant("async-lru", mode, kept, _dropping(lambda fn, *_: fn.cache_clear()), _nothing), *both]
    tools = cachetools and _cachetools
    lru = functools.lru_cache(SIZE)
    return [
        Contestant("functools.lru_cache", mode, lru, _dropping(lambda fn, *_: fn.cache_clear()), _nothing),
        Contestant("cachetools", mode, tools, _dropping(lambda fn, *_: fn.cache_clear()), _nothing),
        *both,
    ]


def on_servers(place: Place, mode: Mode, *, locked: bool = True) -> list[Contestant]:
    """Return the peers that keep values on this server, for this kind of functions.

    Args:
        place: The server; what a peer cannot drop alone is dropped with everything else there.
        mode: The kind of functions.
        locked: Whether callers of one cold key wait for each other, in all processes.
    """
    found = []
    for name, peer in peers_on(place, mode, locked=locked).items():
        where = f"{name}, {place.kind.capitalize()}"
        if peer is None:
            found.append(Contestant(where, mode, None, _dropping(lambda *_: None), _nothing))
        else:
            found.append(Contestant(where, mode, peer.cached, _drop_of(name, peer.cache), peer.close))
    return found


def _drop_of(name: str, cache: Any) -> Callable[..., Awaitable[object]]:
    async def with_all(fn: Any, *_: Any) -> None:
        await (cache if name == "cashews" else fn.cache).clear()

    return _dropping(lambda fn, *args: fn.invalidate(*args)) if name == "dogpile.cache" else with_all


def ours(mode: Mode, levels: tuple[str, ...], *places: Place) -> Contestant:
    """Return our cache on these levels, and on servers for those behind memory."""
    options: dict[str, Any] = {}
    for place in places:
        options |= {"l2_host": place.url} if place.kind == "redis" else {"l3_servers": [place.address]}
    cache = Cache(namespace="benchmark", **options)

    async def drop(*_: Any) -> None:
        if mode == "async":
            await cache.drop(tags=[TAG])
        else:
            cache.drop_sync(tags=[TAG])

    where = {"l1": "memory", "l2": "Redis", "l3": "Memcached"}
    name = "smw, " + " and ".join(where[level] for level in levels)
    return Contestant(name, mode, cache.cached(TTL_S, tags=[TAG], levels=levels), drop, cache.aclose)
