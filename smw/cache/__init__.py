"""The function cache: memory, Redis and memcached behind one decorator; every name here loads on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smw.cache.api import cached, drop, drop_sync, info, invalidate, key_for, on_commit
    from smw.cache.part import Cache
    from smw.cache.ports import Found, Store, StoreFailedError
    from smw.cache.region import Region
    from smw.cache.stats import CacheInfo

__all__ = [
    "Cache",
    "CacheInfo",
    "Found",
    "Region",
    "Store",
    "StoreFailedError",
    "cached",
    "drop",
    "drop_sync",
    "info",
    "invalidate",
    "key_for",
    "on_commit",
]

if not TYPE_CHECKING:
    _NAMES = {
        "Cache": "part",
        "CacheInfo": "stats",
        "Found": "ports",
        "Region": "region",
        "Store": "ports",
        "StoreFailedError": "ports",
        "cached": "api",
        "drop": "api",
        "drop_sync": "api",
        "info": "api",
        "invalidate": "api",
        "key_for": "api",
        "on_commit": "api",
    }

    def __getattr__(name: str) -> Any:
        """Load a public name from its module on first use."""
        if name not in _NAMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
