"""Several backplanes as one: of servers that share the keys, each of which numbers its own messages; does no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw.cache.coherence.backplane import Backplane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.guard import Budget
    from smw.cache.levels.level import Level
    from smw.cache.levels.remote import Remote

__all__ = ["Backplanes", "backplane_of"]


def backplane_of(
    remote: Remote, drop: Callable[[Sequence[str]], None], drop_all: Callable[[], None]
) -> Backplane | Backplanes:
    """Return what decides until when memory is current: one for the server that keeps the counters, or one for each.

    Args:
        remote: The levels behind memory.
        drop: As for `Backplane`.
        drop_all: As for `Backplane`.
    """
    servers = remote.tiers[0].servers if remote.tiers else ()
    if len(servers) < 2:
        return Backplane(drop, drop_all)
    return Backplanes({level: Backplane(drop, drop_all) for level in servers}, remote.tiers[0].of)


class Backplanes:
    """What this process has heard of the drops of others, server by server.

    A drop is told by each server that it concerns, when it has acknowledged it. So an entry is current as far as the
    server of its key is heard; one that was made from others, as far as all are. Where one server's messages were
    missed all of memory is dropped.

    Args:
        planes: The backplane of each server.
        server_of: Returns the one that keeps a key.
    """

    def __init__(self, planes: dict[Level, Backplane], server_of: Callable[[str], Level]) -> None:
        self.planes = planes
        self._server_of = server_of
        self._first, *_ = planes.values()

    @property
    def wanted_at(self) -> float:
        """When somebody last asked."""
        return self._first.wanted_at

    @property
    def messages(self) -> int:
        """Messages of other processes."""
        return sum(plane.messages for plane in self.planes.values())

    @property
    def gaps(self) -> int:
        """How often something was missed."""
        return sum(plane.gaps for plane in self.planes.values())

    def want(self, now: float) -> None:
        """Say that memory is in use, so that it is kept current for a while."""
        self._first.want(now)

    def of(self, key: str) -> Backplane:
        """Return that of the server of `key`."""
        return self.planes[self._server_of(key)]

    def of_server(self, level: Level) -> Backplane:
        """Return that of a server."""
        return self.planes[level]

    def current(self, asked: float) -> float:
        """Return when memory was last known to be current, whatever server it is about."""
        return min(plane.current(asked) for plane in self.planes.values())

    async def has_heard_all(self, since: float, *, budget: Budget, mode: Mode) -> bool:
        """Tell whether every drop until now was heard of every server, as `Backplane.has_heard_all` does of one."""
        for plane in self.planes.values():
            if not await plane.has_heard_all(since, budget=budget, mode=mode):
                return False
        return True

    async def joined(self, timeout_s: float, mode: Mode) -> bool:
        """Tell whether a session has begun with every server, as `Backplane.joined` does of one."""
        for plane in self.planes.values():
            if not await plane.joined(timeout_s, mode):
                return False
        return True
