"""Makes one MGET of the reads of one tick of an event loop; knows neither values nor deadlines of servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smw.cache.stores.redis_gathered import Batch, Gathered

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Reads", "SlotReads"]

MOST_KEYS = 256
"""A batch that has so many is sent, and the next read begins another: a reply must not grow without end."""


class _Keys(Batch):
    """Reads that travel together, with the keys of all of them, each once."""

    __slots__ = ("names",)

    def __init__(self, opened: float) -> None:
        super().__init__(opened)
        self.names: dict[str, None] = {}


class Reads(Gathered):
    """The reads of one event loop: those of one tick are one MGET that names each key once.

    Where the reply has another shape, it is None for each of them.
    """

    kind = _Keys

    def _measured(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        return command[1:]

    def _add(self, batch: _Keys, measured: tuple[Any, ...]) -> None:
        names = batch.names
        for name in measured:  # of a few, quicker than to update with all at once
            names[name] = None

    def _is_full(self, batch: _Keys) -> bool:
        return len(batch.names) >= MOST_KEYS

    async def _ask(self, batch: _Keys) -> list[Any]:
        reply = await self._replied(batch.last_s, batch.names)
        if not isinstance(reply, list) or len(reply) != len(batch.names):
            return [None] * len(batch.waiters)
        shown = dict(zip(batch.names, reply, strict=True)).__getitem__
        return [list(map(shown, keys)) for _, keys, _ in batch.waiters]

    async def _replied(self, timeout_s: float, names: Iterable[str]) -> Any:
        return await self._lines.run(timeout_s, "MGET", *names)


class SlotReads(Reads):
    """The reads of one event loop of one node of a cluster: one MGET for each slot, all at once on one connection.

    Names begin with their hash tag. Where a slot is refused, the error stands in the place of each of its values.
    """

    async def _replied(self, timeout_s: float, names: Iterable[str]) -> Any:
        asked, slots = list(names), dict[str, list[str]]()
        for name in asked:
            slots.setdefault(name[: name.index("}")], []).append(name)
        replies = await self._lines.run_all(timeout_s, [("MGET", *those) for those in slots.values()])
        shown: dict[str, Any] = {}
        for those, reply in zip(slots.values(), replies, strict=True):
            refused = isinstance(reply, Exception)
            if not refused and (not isinstance(reply, list) or len(reply) != len(those)):
                return None
            shown.update(dict.fromkeys(those, reply) if refused else zip(those, reply, strict=True))
        return [shown[name] for name in asked]
