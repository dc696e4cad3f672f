"""Builds redis-py clients with smw's own time-outs and without surprises; knows neither caches nor streams."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from smw._redis.address import Address, form, parse, shown
from smw._redis.endings import ending_pool
from smw._redis.tls import tls_connection
from smw._redis.whole import whole_exchange
from smw.errors import ConfigError, MissingExtra
from smw.urls import redis_url

if TYPE_CHECKING:
    import redis
    import redis.asyncio

__all__ = ["awaiting", "blocking"]

_OF_POOLS = ("connection_class", "max_connections", "timeout")
_SENTINEL_S = 0.05
"""Most that one Sentinel may take where the caller sets no time-out, so that the next can still be asked."""


def _options(timeout_s: float | None, connect_s: float | None, most: int, retry: Any) -> dict[str, Any]:
    import redis

    nameless = {"driver_info": None} if hasattr(redis, "DriverInfo") else {"lib_name": None, "lib_version": None}
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s if connect_s is None else connect_s,
        "timeout": timeout_s,  # of the wait for a free connection
        "max_connections": most,
        "retry": retry,
        # RESP2 needs no HELLO, and the library's name no CLIENT SETINFO: a new connection can ask its question at
        # once, so that short time-outs are not used up by the handshake.
        "protocol": 2,
        **nameless,
    }


def _parsed(url: str) -> Address:
    try:
        redis_url(url)
    except ValueError as error:
        raise ConfigError("SMW-S103", f"the Redis URL is refused: {error}", fix=form(url)) from None
    try:
        return parse(url)
    except ValueError as error:
        raise _refused(url, error) from None


def _refused(url: str, error: ValueError) -> ConfigError:
    if isinstance(error, ConfigError):
        return error
    what = f"the Redis URL {shown(url)} is refused: {str(error).replace(url, shown(url))}"
    return ConfigError("SMW-S103", what, fix=form(url))


def _asked(url: str, server: str, parse_url: Any, known: Any) -> dict[str, Any]:
    """Return what a URL asks of redis-py's connections; one of their names misspelled would fail at each call."""
    found: dict[str, Any] = parse_url(server)
    connection = found.get("connection_class", known)
    names = {name for kind in connection.__mro__ for name in inspect.signature(kind.__init__).parameters}
    for name in found:
        if name not in names and name not in _OF_POOLS:
            what = f"the Redis URL {shown(url)} has the option {name}, which this redis-py does not know"
            raise ConfigError("SMW-S103", what, fix="pip install -U redis, or leave the option out")
    return found


def blocking(
    url: str, *, timeout_s: float, connect_s: float | None = None, max_connections: int = 64, whole: bool = False
) -> redis.Redis:
    """Return a client for blocking code; opens no connection yet.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with options as redis-py takes them; ``redis+sentinel://``
            leads to the master, wherever it is when a connection is made; ``redis+cluster://`` to any of its nodes,
            which is right for what all nodes do alike, such as publishing.
        timeout_s: Most that one read, one write or the wait for a free connection may take. Asking the Sentinels may
            take as long again.
        connect_s: Most that connecting may take, and looking up the host before; `timeout_s` when not given.
        max_connections: Connections at a time; a caller beyond waits `timeout_s`, then fails.
        whole: Let `timeout_s` bound the whole exchange, also against a server that drips its reply (plain TCP only).

    Raises:
        MissingExtra: redis-py is not installed.
        ConfigError: The URL is refused.
    """
    try:
        import redis.connection
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        from smw._redis.named import named
    except ImportError:
        raise MissingExtra("a Redis connection", package="redis", extra="redis") from None
    address, server, finder = _parsed(url), url, None
    pools = ending_pool(redis.BlockingConnectionPool)
    base = named(encrypted=address.scheme == "rediss")
    if address.kind != "server":
        from smw._redis import finders, found

        sentinels = [
            blocking(address.sentinel(*host), timeout_s=timeout_s / 2, max_connections=max_connections)
            for host in (address.hosts if address.kind == "sentinel" else ())
        ]
        finder = finders.blocking_finder(address, sentinels, url, timeout_s=timeout_s)
        server, base = address.server(*address.hosts[0]), found.blocking_connection(base, finder)
        pools = found.blocking_pool(pools, finder)
    chosen: dict[str, Any] = {}
    try:
        if address.scheme == "rediss":
            from redis._parsers import _RESP2Parser

            # With hiredis a new connection counts as unclean while the session tickets of TLS 1.3 wait to be read, and
            # is refused; this parser looks at what is behind the encryption.
            chosen = {"parser_class": _RESP2Parser, "connection_class": tls_connection(server, base, awaits=False)}
        elif address.scheme == "redis":
            chosen = {"connection_class": whole_exchange(base) if whole else base}
        made: Any = redis.connection  # untyped in part
        options = _options(timeout_s, connect_s, max_connections, Retry(NoBackoff(), 0))
        pool = pools(**{**options, **_asked(url, server, made.parse_url, made.Connection), **chosen})
    except ValueError as error:
        raise _refused(url, error) from None
    if finder is not None:
        finder.serve(pool)
    return redis.Redis(connection_pool=pool)


def awaiting(
    url: str, *, timeout_s: float | None, connect_s: float | None = None, max_connections: int = 64
) -> redis.asyncio.Redis:
    """Return a client for coroutines; it belongs to the running event loop and opens no connection yet.

    Args:
        url: As for `blocking`.
        timeout_s: Most that one read, one write or the wait for a free connection may take; None leaves deadlines to
            the caller (``asyncio.timeout``), which is cheaper and cuts the connection off just the same.
        connect_s: Most that connecting may take; `timeout_s` when not given.
        max_connections: Connections at a time; a caller beyond waits `timeout_s`, then fails.

    Raises:
        MissingExtra: redis-py is not installed.
        ConfigError: The URL is refused.
    """
    try:
        import redis.asyncio.connection
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise MissingExtra("a Redis connection", package="redis", extra="redis") from None
    address, server, finder = _parsed(url), url, None
    pools: type[Any] = redis.asyncio.BlockingConnectionPool
    base: type[Any] = redis.asyncio.SSLConnection if address.scheme == "rediss" else redis.asyncio.Connection
    if address.kind != "server":
        from smw._redis import finders, found

        wait_s = _SENTINEL_S if timeout_s is None else timeout_s / 2
        sentinels = [
            awaiting(address.sentinel(*host), timeout_s=wait_s, max_connections=max_connections)
            for host in (address.hosts if address.kind == "sentinel" else ())
        ]
        finder = finders.awaiting_finder(address, sentinels, url)
        server, base = address.server(*address.hosts[0]), found.awaiting_connection(base, finder)
        pools = found.awaiting_pool(pools, finder)
    chosen: dict[str, Any] = {}
    try:
        if address.scheme == "rediss":
            chosen = {"connection_class": tls_connection(server, base, awaits=True)}
        elif address.scheme == "redis":
            chosen = {"connection_class": base}
        made: Any = redis.asyncio.connection  # untyped in part
        options = _options(timeout_s, connect_s, max_connections, Retry(NoBackoff(), 0))
        pool = pools(**{**options, **_asked(url, server, made.parse_url, made.Connection), **chosen})
    except ValueError as error:
        raise _refused(url, error) from None
    if finder is not None:
        finder.serve(pool)
    return redis.asyncio.Redis(connection_pool=pool)
