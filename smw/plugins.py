"""Which plug-ins are installed for smw, by entry point; loads one when it is needed, and knows no part."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from smw.errors import ConfigError

__all__ = ["CODECS", "STORES", "load", "names"]

STORES = "smw.cache.stores"
"""Scheme of a URL → what makes a store of that URL."""
CODECS = "smw.cache.codecs"
"""``module.qualname`` of a type → an object with ``pack(value) -> bytes`` and ``unpack(bytes) -> value``."""


def names(group: str) -> tuple[str, ...]:
    """Return the names under which plug-ins of a group are installed, in order; imports none of them."""
    return tuple(sorted({point.name for point in metadata.entry_points(group=group)}))


def load(group: str, name: str) -> Any:
    """Return the plug-in of that name, or None where none is installed.

    Raises:
        ConfigError: It is installed but cannot be imported.
    """
    for point in metadata.entry_points(group=group, name=name):
        try:
            return point.load()
        except (Exception, SystemExit) as error:
            what = f"the plug-in {name!r} of {group} cannot be imported: {type(error).__name__}: {error}"
            package = point.dist.name if point.dist is not None else point.value
            raise ConfigError(
                "SMW-S105", what, seen=point.value, fix=f"mend or remove the package {package}"
            ) from error
    return None
