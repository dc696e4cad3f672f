"""Tells what an exception of a client of memcached means to the levels; asks nobody."""

from __future__ import annotations

from smw.cache.ports import StoreFailedError
from smw.cache.stores.deadlines import LagError

__all__ = ["failure"]

_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (LagError, "lag"),
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "refused"),
    ((OSError, EOFError), "connection"),
)
_TEXTS = (("too large", "too-large", False), ("out of memory", "full", False), ("Too many objects", "busy", True))


def failure(error: Exception) -> StoreFailedError:
    """Return what a failure of a client, or of its connection, is to the levels."""
    if isinstance(error, StoreFailedError):
        return error
    kind = next((kind for types, kind in _KINDS if isinstance(error, types)), "")
    if kind or type(error).__name__ == "MemcacheUnexpectedCloseError":
        return StoreFailedError(kind or "connection")
    text = str(error)
    for part, kind, counts in _TEXTS:
        if part in text:
            return StoreFailedError(kind, counts=counts)
    return StoreFailedError("protocol")
