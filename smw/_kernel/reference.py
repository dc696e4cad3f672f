"""Finds a decorated function again by its name, for pickles that travel to other processes; knows nothing of chains."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["resolve"]


def resolve(name: str) -> Any:
    """Return what ``module:qualname`` names now, or None where nothing has that name."""
    module, _, qualname = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found
