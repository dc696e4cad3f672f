"""The function cache: memory, Redis and memcached behind one decorator; every name here loads on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smw.cache.api import cached, drop, drop_sync, info, invalidate, key_for, on_commit, reading_after, writes
    from smw.cache.asking import (
        clear,
        clear_sync,
        peek,
        peek_sync,
        warm_fleet,
        warm_fleet_sync,
        why,
        why_sync,
    )
    from smw.cache.coherence.bookmark import Token
    from smw.cache.functions.refreshing import refresh, refresh_sync
    from smw.cache.functions.together import get_many, get_many_sync
    from smw.cache.naming.tags import tag
    from smw.cache.options import Auto
    from smw.cache.part import Cache
    from smw.cache.ports import Found, Store, StoreFailedError
    from smw.cache.region import Region
    from smw.cache.sight.stats import CacheInfo
    from smw.cache.sight.story import LevelStory, Story
    from smw.cache.warming.explicit import Warmed, warm, warm_sync
    from smw.cache.warming.warmup import FleetWarmed

__all__ = [
    "Auto",
    "Cache",
    "CacheInfo",
    "FleetWarmed",
    "Found",
    "LevelStory",
    "Region",
    "Store",
    "StoreFailedError",
    "Story",
    "Token",
    "Warmed",
    "cached",
    "clear",
    "clear_sync",
    "drop",
    "drop_sync",
    "get_many",
    "get_many_sync",
    "info",
    "invalidate",
    "key_for",
    "on_commit",
    "peek",
    "peek_sync",
    "reading_after",
    "refresh",
    "refresh_sync",
    "tag",
    "warm",
    "warm_fleet",
    "warm_fleet_sync",
    "warm_sync",
    "why",
    "why_sync",
    "writes",
]

if not TYPE_CHECKING:
    _NAMES = {
        "Auto": "options",
        "Cache": "part",
        "CacheInfo": "sight.stats",
        "FleetWarmed": "warming.warmup",
        "Found": "ports",
        "LevelStory": "sight.story",
        "Region": "region",
        "Store": "ports",
        "StoreFailedError": "ports",
        "Story": "sight.story",
        "Token": "coherence.bookmark",
        "Warmed": "warming.explicit",
        "cached": "api",
        "clear": "asking",
        "clear_sync": "asking",
        "drop": "api",
        "drop_sync": "api",
        "get_many": "functions.together",
        "get_many_sync": "functions.together",
        "info": "api",
        "invalidate": "api",
        "key_for": "api",
        "on_commit": "api",
        "reading_after": "api",
        "refresh": "functions.refreshing",
        "refresh_sync": "functions.refreshing",
        "peek": "asking",
        "peek_sync": "asking",
        "tag": "naming.tags",
        "warm": "warming.explicit",
        "warm_fleet": "asking",
        "warm_fleet_sync": "asking",
        "warm_sync": "warming.explicit",
        "why": "asking",
        "why_sync": "asking",
        "writes": "api",
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
