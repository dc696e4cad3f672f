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


class Runs(Gathered):
    """The scripts of one event loop: each is answered for itself, whatever becomes of the others."""

    def _is_joined(self, command: tuple[Any, ...]) -> bool:
        return _bytes_of(command) <= ALONE_BYTES

    def _is_full(self, batch: Batch) -> bool:
        return len(batch.waiters) >= MOST_COMMANDS or batch.weight >= MOST_BYTES

    def _added(self, batch: Batch, command: tuple[Any, ...]) -> tuple[Any, ...]:
        batch.weight += _bytes_of(command)
        return command

    async def _ask(self, batch: Batch) -> list[Any]:
        return await self._lines.run_all(batch.last_s, [command for _, command, _ in batch.waiters])


def _bytes_of(command: tuple[Any, ...]) -> int:
    """Return about how long a command is: of numbers it has few."""
    return sum([len(word) for word in command if word.__class__ is bytes or word.__class__ is str])
