"""One load for several processes in the search: the real `Fleet` and `Listener`, and the flaws that must be found."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

from smw.cache.coherence.listener import AGAIN, Listener, Station
from smw.cache.levels.engine import Engine
from smw.cache.loading.fleet import Fleet
from smw.cache.loading.stepping import LEASE, LOOK, RELEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from smw.cache.coherence.wire import Wire
    from smw.cache.levels.engine import Look, Place
    from smw.cache.levels.remote import Sight
    from smw.cache.ports import Found
    from smw.cache.values.forms import Policy
    from tests.properties.coherence_servers import Server

FLAWS = ("sent", "epoch", "asked", "fill", "owner", "mute")
"""What the search must catch: a value that was sent is taken whatever the counters show; it is kept whatever was
dropped since they were asked for; it is trusted from when it came; what was loaded under a lease is stored always; a
lease is ended by whoever had it before; nobody is told of its end."""


class SteppedListener(Listener):
    """A listener without a thread: the search tells it what it hears."""

    def start(self) -> None:
        """Do nothing."""

    def reconnect(self) -> None:
        """Lose the connection, with whatever was on its way, and have another one."""
        self.lost(None)
        self.is_connected = True
        self._news(AGAIN, None, None)


class FleetEngine(Engine):
    """The engine, whose loads tell under which counters they begin."""

    async def load(
        self, place: Place, policy: Policy, load: Callable[..., Any], mode: Any, *, sight: Sight, **more: Any
    ) -> Any:
        async def told() -> Any:
            return await load(*filter(None, [sight.versions]))

        return await super().load(place, policy, told, mode, sight=sight, **more)


class SteppedFleet(Fleet):
    """A fleet whose loads take long enough for a lease.

    Args:
        flaw: One of `FLAWS`, or nothing.
    """

    def __init__(self, engine: Engine, listener: Listener, flaw: str) -> None:
        super().__init__(engine, listener)
        self.flaw = flaw

    def _timed(self, place: Place, load: Callable[..., Any]) -> Callable[..., Any]:
        return load

    async def _look(self, place: Place, policy: Policy, look: Look, found: Found | None, mode: Any) -> Look:
        if found is not None and found.blob is not None:
            if self.flaw == "sent":
                letter = self._engine.remote.envelope.open(found.blob, (place.text or "").encode())
                found = found._replace(counters=(letter.fence, *letter.generations))
            elif self.flaw == "epoch":
                look = look._replace(epoch=self._engine.fence.epoch)
            elif self.flaw == "asked":
                look.sight.asked = self._now()
        return await super()._look(place, policy, look, found, mode)


def fleet_of(engine: Engine, wire: Wire, *, trust_s: float, flaw: str) -> SteppedFleet:
    """Return the fleet of a process, whose listener hears all servers."""
    servers = engine.remote.tiers[0].servers
    stations = [Station(level, engine.backplane.of_server(level), level.store.part) for level in servers]
    listener = SteppedListener(engine.backplane, stations, wire, engine.host, trust_s=trust_s)
    listener.is_connected = True
    return SteppedFleet(engine, listener, flaw)


@types.coroutine
def passed(what: Any) -> Generator[Any, Any, Any]:
    """Have the search do what a coroutine asks for that is advanced here."""
    return (yield what)


async def answered(engine: Engine, policy: Policy, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a load comes to that may be suspended, doing what it asks for as it is done for several at once."""
    leasing, reply = engine.fleet.leasing, None
    while True:
        try:
            what = coroutine.send(reply)
        except StopIteration as stop:
            return stop.value
        if what[0] == LEASE:
            (reply,) = await leasing.now([what[1]], "sync")
        elif what[0] == RELEASE:
            reply = await leasing.release([what[1]], "sync")
        elif what[0] == LOOK:
            reply = await engine.look(what[1], policy, "sync")
        else:
            reply = await passed(what)


def flawed(server: Server, what: tuple[Any, ...], flaw: str) -> tuple[Server, tuple[Any, ...]]:
    """Return a server that has a fleet with that flaw, and what it is asked for.

    Args:
        server: Before it.
        what: What it is asked for.
        flaw: One of `FLAWS`, or nothing.
    """
    command, keys, *args = what
    data, is_leased = dict(server.data), command == "write" and len(args) - len(keys) > 2
    if not is_leased and command != "release":
        return server, what
    lease, mine, shown = keys[-1], -3 if is_leased else 0, args[3:-3] if is_leased else args[3:]
    if flaw == "fill" and is_leased:
        args[3:-3] = [int(data[name][0]) if name in data else 0 for name in keys[1:-1]]
    elif flaw == "mute":
        args[mine] = "nobody"
    elif flaw == "owner" and lease in data:
        held = dict(data[lease][0]) | {"by": args[mine], "at": " ".join(map(str, shown)).encode()}
        data[lease] = tuple(sorted(held.items())), *data[lease][1:]
        server = server.kept(data)
    return server, (command, keys, *args)
