"""Waiting for what another process or task brings about."""

from __future__ import annotations

import asyncio
import time


async def until(condition, seconds=60):
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)
