"""Drops what a writer has made old: at once, without waiting, or from within a transaction; decides nothing of when."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from smw._kernel.bridge import on_asyncio
from smw.cache.level import run_blocking

if TYPE_CHECKING:
    from smw._kernel.call import Mode
    from smw.cache.engine import Engine
    from smw.cache.readers import Scopes

__all__ = ["drop", "drop_from_anywhere", "drop_soon"]

_log = logging.getLogger("smw.cache")
_telling: set[asyncio.Task[Any]] = set()
"""Tasks that tell servers; the event loop itself holds them weakly."""


async def drop(engine: Engine, scopes: Scopes, mode: Mode) -> None:
    """Drop `scopes` in the caller's mode."""
    if scopes.here:
        engine.drop_here(scopes.here)
    if scopes.tags or scopes.keys:
        await engine.drop(scopes.tags, scopes.keys, mode)


def drop_soon(engine: Engine, scopes: Scopes) -> None:
    """Drop `scopes` here at once, and have the servers told in the background; cannot fail and does not suspend."""
    for level, _ in _begun(engine, scopes):
        level.wake()


def drop_from_anywhere(engine: Engine, scopes: Scopes) -> None:
    """Drop `scopes` from a callback that may run in blocking code or on an event loop; never raises.

    Blocking code has the servers told when this returns, within the budget of a call. A callback on an event loop
    must not block it: a task tells them, and the payers of debts do if that task never runs.
    """
    try:
        owed = _begun(engine, scopes)
        if not owed:
            return
        if not on_asyncio():
            run_blocking(engine.remote.drop(owed, budget=engine.budget(), mode="sync"))
            return
        for level, _ in owed:
            level.wake()
        telling = engine.remote.drop(owed, budget=engine.budget(), mode="async")
        task = asyncio.get_running_loop().create_task(telling)
        _telling.add(task)
        task.add_done_callback(_telling.discard)
    except Exception:  # noqa: BLE001 - a transaction that is committed must not appear to have failed
        _log.exception("what a transaction has changed could not be dropped from the cache")


def _begun(engine: Engine, scopes: Scopes) -> Any:
    """Owe the servers what is to be dropped, then drop it here, so that no reader takes it back in between."""
    owed = engine.remote.owe(scopes.tags, scopes.keys)
    engine.drop_here((*scopes.tags, *scopes.keys, *scopes.here))
    return owed
