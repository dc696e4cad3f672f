"""How each level of a cache stands, as its last calls have shown; asks no server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw._kernel.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smw.cache.levels.engine import Engine

__all__ = ["standing_of"]


def standing_of(engine: Engine, *, in_memory: bool) -> Iterator[Standing]:
    """Yield memory with what it holds, and each level of servers with its breakers and the drops that it is owed.

    Args:
        engine: The levels.
        in_memory: Whether memory is one of them.
    """
    if in_memory:
        yield Standing("cache.l1", is_well=True, seen=f"entries: {engine.memory.entries}")
    for tier in engine.remote.tiers:
        servers = tier.servers
        owed, down = sum(len(server.debt) for server in servers), sum(server.breaker.is_open for server in servers)
        breakers = f"breaker: {'open' if down else 'closed'}"
        if len(servers) > 1:
            breakers = f"breakers open: {down} of {len(servers)}"
        yield Standing(f"cache.{tier.name}", is_well=not down, seen=f"{breakers}, drops owed: {owed}")
