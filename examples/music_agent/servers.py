"""The Redis and memcached that the demo was given, if any: whether they answer, and leaving no stream behind."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

_CONNECT_S = 2.0


def redis_url() -> str | None:
    """Return the Redis that the demo was given."""
    return _setting("CACHE_L2_URL")


def silent() -> list[tuple[str, str]]:
    """Return variable and address of each server that does not take a connection.

    smw itself starts and serves without them; a demo of them would show nothing.
    """
    named = [("CACHE_L3_SERVERS", address) for address in (_setting("CACHE_L3_SERVERS") or "").split(",") if address]
    url = urlsplit(redis_url() or "")
    if url.hostname:
        named.append(("CACHE_L2_URL", f"{url.hostname}:{url.port or 6379}"))
    return [(name, address) for name, address in named if not _answers(address)]


def forget(stream: str | None) -> None:
    """Delete the demo's event stream and its dead letters; what it cached expires by itself."""
    url = redis_url()
    if stream is None or url is None:
        return
    from redis import Redis

    with Redis.from_url(url) as client:
        client.delete(stream, f"{stream}.dlq")


def _setting(name: str) -> str | None:
    return os.environ.get(f"SMW_{name}") or os.environ.get(name)


def _answers(address: str) -> bool:
    host, _, port = address.strip().rpartition(":")
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except OSError:
        return False
    return True
