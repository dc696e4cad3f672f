"""Stores and codecs that others have written: finds them by scheme and by type; loads none that is not needed."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from smw import plugins
from smw.cache.stores.supervised import supervised
from smw.errors import ConfigError
from smw.settings import is_redis, masked

if TYPE_CHECKING:
    from smw._kernel.host import Host
    from smw.cache.ports import Store

__all__ = ["ValueCodec", "codec_named", "codec_of", "installed_codecs", "store_at"]

_log = logging.getLogger("smw.cache")
_PARTS = ("name", "is_atomic", "read", "open", "write", "drop", "probe", "close", "aclose")


class ValueCodec(Protocol):
    """What a plug-in knows of one type; both methods are handed foreign bytes or values and may raise anything."""

    def pack(self, value: Any) -> bytes:
        """Return bytes from which `unpack` makes an equal value of the same type."""
        ...

    def unpack(self, payload: bytes) -> Any:
        """Return the value; bytes of unknown origin must do no harm."""
        ...


def store_at(url: str, host: Host, *, timeout_s: float) -> Store | None:
    """Return the store at a URL whose scheme is ``memory`` or a plug-in's, or None where it is neither.

    Args:
        url: As set.
        host: The cache's.
        timeout_s: The most that one operation may take.

    Raises:
        ConfigError: The plug-in cannot be imported, or makes no store.
    """
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme == "memory":
        from smw.cache.stores.local import LocalStore

        return LocalStore(url, clock=host.clock)
    make = plugins.load(plugins.STORES, scheme) if scheme and not is_redis(url) else None
    if make is None:
        return None
    try:
        store: Store = make(url, timeout_s=timeout_s)
    except Exception as error:
        what, fix = f"the plug-in for {scheme}:// makes no store: {type(error).__name__}", "correct the URL"
        raise ConfigError("SMW-C122", what, seen=masked(url), fix=f"{fix}, or mend the plug-in") from error
    missing = [part for part in _PARTS if not hasattr(store, part)]
    if missing:
        what = f"the plug-in for {scheme}:// makes no store: it lacks {', '.join(missing)}"
        fix = "run the checks of smw.testing.conformance on it"
        raise ConfigError("SMW-C122", what, seen=masked(url), fix=fix)
    return supervised(store)


_loaded: dict[str, ValueCodec | None] = {}


@functools.cache
def installed_codecs() -> frozenset[str]:
    """Return the names of the codecs that are installed; looked up once in a process."""
    return frozenset(plugins.names(plugins.CODECS))


def codec_of(kind: type) -> tuple[str, ValueCodec] | None:
    """Return name and codec of a type that the cache does not know, or None where no plug-in does either."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    codec = codec_named(name)
    return None if codec is None else (name, codec)


def codec_named(name: str) -> ValueCodec | None:
    """Return the codec that is installed under a name; one that cannot be imported is reported once and left out."""
    if name not in installed_codecs():
        return None
    if name not in _loaded:
        try:
            _loaded[name] = plugins.load(plugins.CODECS, name)
        except ConfigError as error:
            _log.error("%s", error)
            _loaded[name] = None
    return _loaded[name]
