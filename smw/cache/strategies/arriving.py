"""Brings one acknowledged write to its source and its value once more to the servers; knows no journal's rows but one.

While a write waits, processes that do not share its folder may load the older value from the source: after a drop, or
when a server has lost the newer one. Nobody would drop it afterwards. So the write that arrives replaces whatever they
have stored, as `write_through` does, and dooms what they are loading.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from smw._kernel.call import Call
from smw.cache.strategies.replacing import look_before

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from smw._kernel.call import Mode
    from smw.cache.levels.engine import Engine
    from smw.cache.strategies.journal import Journal
    from smw.cache.strategies.journal_rows import Row
    from smw.cache.strategies.letters import Letters
    from smw.cache.strategies.replacing import Before
    from smw.cache.strategies.writing import Changed, Writes

__all__ = ["ARRIVING", "Arrivals"]

_log = logging.getLogger("smw.cache")
ARRIVING: ContextVar[str] = ContextVar("smw_arriving", default="")
"""The key of the acknowledged write that is done here."""


class Arrivals:
    """What is done for each acknowledged write.

    Args:
        engine: The levels.
        letters: Opens arguments and values.
        writers: The functions that are known here, by name.
        drop: Drops keys in the background.
    """

    def __init__(
        self, engine: Engine, letters: Letters, writers: Mapping[str, Writes], drop: Callable[..., None]
    ) -> None:
        self._engine = engine
        self._letters = letters
        self._writers = writers
        self._drop = drop

    async def bring(self, journal: Journal, row: Row, mode: Mode) -> None:
        """Do a write that the journal still has.

        Raises:
            BaseException: What the function of the user raises.
        """
        writer = self._writers[row.writer]
        args, kwargs = self._letters.opened_arguments(writer.target, row.key, row.arguments)
        is_shared = bool(self._engine.remote.tiers)
        before = await self._before(writer, row, args, kwargs, mode) if is_shared else None
        token = ARRIVING.set(row.key)
        try:
            result = writer.source(*args, **kwargs)
            if mode == "async":
                await result
        finally:
            with suppress(ValueError):  # ended by the garbage collector, in another context
                ARRIVING.reset(token)
        if is_shared:
            await self._replace(writer, journal, row, before, mode)

    async def _before(
        self, writer: Writes, row: Row, args: Sequence[Any], kwargs: Mapping[str, Any], mode: Mode
    ) -> tuple[Changed, Before] | None:
        """Return which result is changed, and what stands of it; None where it is not to be found."""
        try:
            changed = writer.changed(Call(writer.target, tuple(args), dict(kwargs)))
            if changed is None or changed.part.engine is not self._engine or changed.place.scopes[0] != row.key:
                return None
            return changed, await look_before(self._engine, changed.place, changed.function.policy, mode)
        except Exception:  # noqa: BLE001 - the write itself must not wait for the cache
            _log.exception("which result an acknowledged write of %s changes cannot be told; it is dropped", row.writer)
            return None

    async def _replace(
        self, writer: Writes, journal: Journal, row: Row, before: tuple[Changed, Before] | None, mode: Mode
    ) -> None:
        try:
            pending = await journal.looked(row.key, mode)
            if before is None or pending is None:
                self._drop(row.key)
                return
            changed, stood = before
            value = self._letters.opened_value(changed.function, row.key, pending)
            await writer.replace(changed, value, stood, mode)
        except Exception:  # noqa: BLE001 - the source has been written, so the write has succeeded
            _log.exception("the value of an acknowledged write of %s cannot be put in place; it is dropped", row.writer)
            self._drop(row.key)
