"""The peers' caches on a server, each as its documentation sets it up; measures nothing and knows no task."""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from tests.services.locate import Found, locate
from tests.services.server import launch
from tests.services.specs import SPECS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = [
    "TTL_S",
    "NoServerError",
    "Peer",
    "Place",
    "aiocache_on",
    "cashews_on",
    "dogpile_on",
    "optional",
    "peers_on",
    "serving",
]

TTL_S = 300
Mode = Literal["sync", "async"]


def optional(module: str) -> Any:
    """Import a peer's module; None where it is not installed, so that its rows read "not measured"."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def release(package: str) -> str:
    """Return a peer's name with its version, as a table names it."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


aiocache, cashews, dogpile = optional("aiocache"), optional("cashews"), optional("dogpile.cache")


class NoServerError(ImportError):
    """A server cannot be had here; an import error, because the harness lists those as not measured."""


@dataclass(frozen=True)
class Place:
    """Where a server listens: what another process needs to reach it.

    Args:
        kind: ``redis`` or ``memcached``.
        host: Its address.
        port: Its port.
    """

    kind: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """Host and port as one word."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as a client's URL."""
        return f"redis://{self.address}/0" if self.kind == "redis" else self.address


@dataclass(frozen=True)
class Peer:
    """One peer's cache on one server.

    Args:
        name: The package.
        mode: The kind of functions that it decorates.
        cached: Keeps a function's results on the server for `TTL_S` seconds, under a key made of its arguments.
        close: Gives the connections back; awaited.
        cache: Its own object, for a task that needs more than the decorator; None where each function has one.
    """

    name: str
    mode: Mode
    cached: Callable[[Any], Any]
    close: Callable[[], Awaitable[object]]
    cache: Any = None


@contextlib.contextmanager
def serving(kind: str, *extra: str) -> Iterator[Place]:
    """Run a server of our own; where there is none the benchmark is listed as not measured."""
    found = locate(SPECS[kind], fetch=False)
    if not isinstance(found, Found):
        raise NoServerError(f"no {kind}: {found.reason}")
    server = launch(SPECS[kind], found, *extra)
    try:
        yield Place(kind, server.host, server.port)
    finally:
        server.close()


def aiocache_on(place: Place, *, locked: bool = False) -> Peer:
    """Set up aiocache (async; Redis, Memcached): pickled values, since its JSON changes types.

    Args:
        place: The server.
        locked: Whether callers of one cold key wait for each other, in all processes.
    """
    backend = aiocache.RedisCache if place.kind == "redis" else aiocache.MemcachedCache
    made: list[Any] = []

    def cached(fn: Any) -> Any:
        decorate = aiocache.cached_stampede if locked else aiocache.cached
        serializer = aiocache.serializers.PickleSerializer()
        wrapped = decorate(ttl=TTL_S, cache=backend, endpoint=place.host, port=place.port, serializer=serializer)(fn)
        made.append(wrapped.cache)
        return wrapped

    async def close() -> None:
        for each in made:
            await each.close()

    return Peer("aiocache", "async", cached, close)


def cashews_on(place: Place, *, locked: bool = False) -> Peer:
    """Set up cashews (async; Redis alone).

    Args:
        place: The server.
        locked: Whether callers of one cold key wait for each other, in all processes.
    """
    cache = cashews.Cache()
    cache.setup(place.url)

    def cached(fn: Any) -> Any:
        return cache(ttl=TTL_S, lock=locked)(fn)

    return Peer("cashews", "async", cached, cache.close, cache)


def dogpile_on(place: Place, *, locked: bool = False) -> Peer:
    """Set up dogpile.cache (sync; Redis, Memcached by pymemcache).

    Args:
        place: The server.
        locked: Whether callers of one cold key wait for each other in all processes; in one they always do.
    """
    arguments: dict[str, Any] = {"distributed_lock": locked}
    if place.kind == "redis":
        # Its values must outlive the region's expiry, and its lock be given up by a holder that died.
        arguments |= {"host": place.host, "port": place.port, "redis_expiration_time": TTL_S * 2, "lock_timeout": 30}
        arguments |= {"thread_local_lock": False} if locked else {}
        backend = "dogpile.cache.redis"
    else:
        arguments |= {"url": [place.address], "memcached_expire_time": TTL_S * 2, "lock_timeout": 30}
        backend = "dogpile.cache.pymemcache"
    region = dogpile.make_region().configure(backend, expiration_time=TTL_S, arguments=arguments)

    async def close() -> None:
        if place.kind == "redis":  # that of Memcached keeps a client a thread, closed with it
            region.backend.writer_client.close()

    return Peer("dogpile.cache", "sync", region.cache_on_arguments(), close, region)


_MAKERS: dict[str, tuple[Mode, tuple[str, ...], Any, Callable[..., Peer]]] = {
    "aiocache": ("async", ("redis", "memcached"), aiocache, aiocache_on),
    "cashews": ("async", ("redis",), cashews, cashews_on),
    "dogpile.cache": ("sync", ("redis", "memcached"), dogpile, dogpile_on),
}


def peers_on(place: Place, mode: Mode, *, locked: bool = False) -> dict[str, Peer | None]:
    """Set up every peer that decorates this kind of functions on this server; None where it is not installed."""
    return {
        name: None if module is None else make(place, locked=locked)
        for name, (its, kinds, module, make) in _MAKERS.items()
        if its == mode and place.kind in kinds
    }
