"""Sends the scripts of one tick of an event loop over one connection; knows neither what they do nor what they say."""

from __future__ import annotations

from typing import Any

from smw.cache.stores.redis_gathered import Batch, Gathered

__all__ = ["Runs"]

MOST_COMMANDS = 128
"""A batch that has so many is sent, and the next script begins another: none waits long for those before it."""
MOST_BYTES = 256 * 1024
"""What has come to so many is sent as well."""
ALONE_BYTES = 64 * 1024
"""A command of more than so many keeps no others: it travels alone."""


class _Weighed(Batch):
    """Scripts that travel together, and about how long they are."""

    __slots__ = ("bytes",)

    def __init__(self, opened: float) -> None:
        super().__init__(opened)
        self.bytes = 0


class Runs(Gathered):
    """The scripts of one event loop: each is answered for itself, whatever becomes of the others."""

    kind = _Weighed

    def _measured(self, command: tuple[Any, ...]) -> tuple[tuple[Any, ...], int] | None:
        # Of numbers, which have no length before they are written, a command has few.
        size = sum([len(word) for word in command if word.__class__ is bytes or word.__class__ is str])
        return (command, size) if size <= ALONE_BYTES else None

    def _add(self, batch: _Weighed, measured: tuple[tuple[Any, ...], int]) -> None:
        batch.bytes += measured[1]

    def _is_full(self, batch: _Weighed) -> bool:
        return len(batch.waiters) >= MOST_COMMANDS or batch.bytes >= MOST_BYTES

    async def _ask(self, batch: _Weighed) -> list[Any]:
        return await self._lines.run_all(batch.last_s, [command for _, (command, _), _ in batch.waiters])
