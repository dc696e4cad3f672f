"""Builds redis-py clients with smw's own time-outs and without surprises; knows neither caches nor streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from smw.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    import redis
    import redis.asyncio

__all__ = ["awaiting", "blocking", "kind_of_failure", "shown"]


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


def blocking(
    url: str, *, timeout_s: float, connect_s: float | None = None, max_connections: int = 64, whole: bool = False
) -> redis.Redis:
    """Return a client for blocking code; opens no connection yet.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with options as redis-py takes them.
        timeout_s: Most that one read, one write or the wait for a free connection may take.
        connect_s: Most that connecting may take; `timeout_s` when not given.
        max_connections: Connections at a time; a caller beyond waits `timeout_s`, then fails.
        whole: Let `timeout_s` bound the whole exchange, also against a server that drips its reply (plain TCP only).

    Raises:
        MissingExtra: redis-py is not installed.
        ConfigError: redis-py refuses the URL.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise MissingExtra("a Redis connection", package="redis", extra="redis") from None
    options = _options(timeout_s, connect_s, max_connections, Retry(NoBackoff(), 0))
    if whole and url.startswith("redis:"):  # a class given here takes the place of those for TLS and Unix sockets
        options["connection_class"] = _whole_connection()
    if url.startswith("rediss:"):
        from redis._parsers import _RESP2Parser

        # With hiredis a new connection counts as unclean while the session tickets of TLS 1.3 wait to be read, and is
        # refused; this parser looks at what is behind the encryption.
        options["parser_class"] = _RESP2Parser
    try:
        pool = redis.BlockingConnectionPool.from_url(url, **options)
    except ValueError as error:
        raise _refused(url, error) from None
    return redis.Redis(connection_pool=pool)


def awaiting(
    url: str, *, timeout_s: float | None, connect_s: float | None = None, max_connections: int = 64
) -> redis.asyncio.Redis:
    """Return a client for coroutines; it belongs to the running event loop and opens no connection yet.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with options as redis-py takes them.
        timeout_s: Most that one read, one write or the wait for a free connection may take; None leaves deadlines to
            the caller (``asyncio.timeout``), which is cheaper and cuts the connection off just the same.
        connect_s: Most that connecting may take; `timeout_s` when not given.
        max_connections: Connections at a time; a caller beyond waits `timeout_s`, then fails.

    Raises:
        MissingExtra: redis-py is not installed.
        ConfigError: redis-py refuses the URL.
    """
    try:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise MissingExtra("a Redis connection", package="redis", extra="redis") from None
    options = _options(timeout_s, connect_s, max_connections, Retry(NoBackoff(), 0))
    try:
        pool = redis.asyncio.BlockingConnectionPool.from_url(url, **options)
    except ValueError as error:
        raise _refused(url, error) from None
    return redis.asyncio.Redis(connection_pool=pool)


def _whole_connection() -> type[Any]:
    import redis

    from smw._kernel import deadline

    class Connection(redis.Connection):
        def _connect(self) -> Any:
            connect: Any = super()._connect  # untyped in redis-py
            return deadline.over(connect())

    return Connection


def shown(url: str) -> str:
    """Return `url` without credentials and options, for logs, errors and health reports."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{where}{parts.path}"


def _refused(url: str, error: ValueError) -> ConfigError:
    text = str(error).replace(url, shown(url))
    return ConfigError("SMW-S103", f"the Redis URL {shown(url)} is refused: {text}", fix="redis://host:6379/0")


def kind_of_failure(error: BaseException) -> tuple[str, bool]:
    """Sort a failure of redis-py into a short constant, and tell whether trying again is useless.

    Returns:
        (``timeout`` | ``auth`` | ``readonly`` | ``full`` | ``loading`` | ``busy`` | ``protocol`` | ``refused`` |
        ``answer`` | ``connection``, permanent).
    """
    import redis.exceptions as known

    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        ((known.AuthenticationError, known.NoPermissionError), "auth"),
        ((known.TimeoutError, TimeoutError), "timeout"),
        (known.ReadOnlyError, "readonly"),
        (known.OutOfMemoryError, "full"),
        (known.BusyLoadingError, "loading"),
        (known.MaxConnectionsError, "busy"),
        (known.InvalidResponse, "protocol"),
        ((known.ConnectionError, OSError), "connection"),
        (known.ResponseError, "answer"),
    )
    kind = next((name for types, name in kinds if isinstance(error, types)), "protocol")
    if kind == "connection" and "refused" in str(error).lower():
        kind = "refused"
    text = str(error)
    if kind == "answer" and text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
        kind = "auth"
    return kind, kind == "auth"
