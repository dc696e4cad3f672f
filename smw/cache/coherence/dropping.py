"""Drops what a writer has made old: at once, without waiting, or from within a transaction; decides nothing of when."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from smw._kernel.bridge import on_asyncio
from smw.cache.coherence.alone import warn_if_alone
from smw.cache.levels.level import run_blocking
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from smw._kernel.call import Mode
    from smw.cache.functions.readers import Scopes
    from smw.cache.levels.engine import Engine

__all__ = ["checked_texts", "drop", "drop_from_anywhere", "drop_soon", "warn_of_fields"]

_log = logging.getLogger("smw.cache")
_FIELD = re.compile(r"\{[A-Za-z_][A-Za-z0-9_.]{0,40}\}")
_FORM = 'drop(tags=["user:7"]), or drop(keys=[key_for(profile, 7)])'
_telling: set[asyncio.Task[Any]] = set()
"""Tasks that tell servers; the event loop itself holds them weakly."""


def checked_texts(tags: object, keys: object, *, form: str = _FORM) -> tuple[list[str], list[Any]]:
    """Return the tags and the keys that a drop by hand is told, the keys unchecked; of empty lists it drops nothing.

    Args:
        tags: What is to be tags.
        keys: What is to be keys.
        form: How it is written.

    Raises:
        ConfigError: It is told of neither, or of something that is no sequence of texts.
    """
    if tags is None and keys is None:
        what = "drop() needs tags= or keys=, what is to be dropped"
        raise ConfigError("SMW-C110", what, fix=f"{form}; clear() drops everything")
    for given in (tags, keys):
        if given is not None and (isinstance(given, str | bytes) or not isinstance(given, Iterable)):
            what = "tags= and keys= take sequences of texts"
            raise ConfigError("SMW-C110", what, seen=type(given).__name__, fix=form)
    texts: list[Any] = list(cast("Iterable[Any]", tags or ()))
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError("SMW-C110", "a tag is a text", seen=type(text).__name__, fix=form)
    if "" in texts:
        raise ConfigError("SMW-C110", "a tag is a text that is not empty", seen=repr(""), fix=form)
    return texts, list(cast("Iterable[Any]", keys or ()))


def warn_of_fields(tags: Iterable[str]) -> bool:
    """Warn of a tag that looks like one of a decorator, whose fields nobody fills here; tell whether one did.

    It is no error: the braces may come from the name of a user, and no name must make a request fail. What the tag
    says besides is not logged.
    """
    field = next((field[0] for field in map(_FIELD.search, tags) if field), None)
    if field is None:
        return False
    _log.warning(
        "cache.drop is told a tag with %s in it, and takes tags as they are: fields are filled by @cached, "
        '@invalidate and cache.tag, as in tags=[cache.tag("user:{user_id}", user_id=user_id)]',
        field,
    )
    return True


async def drop(engine: Engine, scopes: Scopes, mode: Mode) -> None:
    """Drop `scopes` in the caller's mode."""
    if scopes.here:
        engine.drop_here(scopes.here)
    if scopes.tags or scopes.keys:
        warn_if_alone(engine)
        await engine.drop(scopes.tags, scopes.keys, mode)


def drop_soon(engine: Engine, scopes: Scopes) -> None:
    """Drop `scopes` here at once, and have the servers told in the background; cannot fail and does not suspend."""
    for level, _ in _begun(engine, scopes):
        level.wake()


def drop_from_anywhere(engine: Engine, scopes: Scopes, told: Callable[[], None]) -> None:
    """Drop `scopes` from a callback that may run in blocking code or on an event loop; never raises.

    Blocking code has the servers told when this returns, within the budget of a call. A callback on an event loop
    must not block it: a task tells them, and the payers of debts do if that task never runs.

    Args:
        engine: The levels.
        scopes: What is dropped.
        told: Called once the servers have been told, or owe an answer.
    """
    try:
        owed = _begun(engine, scopes)
        if not owed or not on_asyncio():
            run_blocking(engine.remote.drop(owed, budget=engine.budget(), mode="sync"))
            told()
            return
        for level, _ in owed:
            level.wake()
        telling = engine.remote.drop(owed, budget=engine.budget(), mode="async")
        task = asyncio.get_running_loop().create_task(telling)
        _telling.add(task)
        task.add_done_callback(_telling.discard)
        task.add_done_callback(lambda _: told())
    except Exception:  # noqa: BLE001 - a transaction that is committed must not appear to have failed
        _log.exception("what a transaction has changed could not be dropped from the cache")


def _begun(engine: Engine, scopes: Scopes) -> Any:
    """Owe the servers what is to be dropped, then drop it here, so that no reader takes it back in between."""
    warn_if_alone(engine)
    owed = engine.remote.owe(scopes.tags, scopes.keys)
    engine.drop_here((*scopes.tags, *scopes.keys, *scopes.here))
    return owed
