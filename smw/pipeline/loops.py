"""Tells whether blocking here would block an event loop; knows nothing else."""

from __future__ import annotations

import asyncio

__all__ = ["in_loop"]


def in_loop() -> bool:
    """Return whether the calling thread runs an event loop right now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
