"""The thread that listens to what other processes drop, and keeps its connection; decides nothing about values."""

from __future__ import annotations

import logging
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from smw._kernel.facts import Fact
from smw._kernel.guard import Budget
from smw._kernel.process import ForkLock, after_fork
from smw._kernel.threads import in_background
from smw.cache.coherence.wire import Wire
from smw.cache.levels.level import run_blocking
from smw.cache.ports import Speaker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.host import Host
    from smw.cache.coherence.backplane import Backplane
    from smw.cache.coherence.planes import Backplanes
    from smw.cache.levels.engine import Engine
    from smw.cache.levels.level import Level
    from smw.cache.ports import Ear, Pulse

    News = Callable[[str, str | None, bytes | None], None]

__all__ = ["HEARTBEAT_S", "Listener", "listener_of"]

_log = logging.getLogger("smw.cache")

HEARTBEAT_S = 0.25
"""How often the server is asked whether everything has been heard, while memory is in use."""
_LINGER_S = 5.0
_TIME_EVERY_S = 10.0
_AGAIN_S = 0.1
_REFUSED_AGAIN_S = 10.0
_END_S = 0.5
_GREET_S = 2.0
AGAIN, ALONE, NEXT = "f", "r", "x"
"""What those who wait for the load of another process are told: to look again, to load, that one of them is to load."""
_MAIL = (b"f ", b"r ", b"x ")


class Station(NamedTuple):
    """A server that tells of drops.

    Attributes:
        level: The server, which is a `Speaker`, with what keeps its failures from callers.
        backplane: Takes in what it tells.
        part: How its messages are told from those of others.
    """

    level: Level
    backplane: Backplane
    part: str

    @property
    def speaker(self) -> Speaker:
        """The store of the moment: tests put another in its place."""
        return cast("Speaker", self.level.store)

    async def ask(self, *, budget: Budget, mode: Mode) -> Pulse | None:
        """Return its pulse, or None when it does not answer."""
        pulse: Pulse | None = await self.level.ask(self.speaker.pulse, budget=budget, mode=mode)
        return pulse

    def greet(self) -> None:
        """Have it drop everything when it is back, if it may have forgotten drops; blocks."""
        run_blocking(self.speaker.pulse(mode="sync", timeout_s=_GREET_S))


class Listener:
    """One daemon thread a process and cache; it starts when memory is first used, and again in a forked child.

    Args:
        backplane: What memory asks whether all was heard.
        stations: The servers; one connection to any of them brings what all of them tell.
        wire: How messages are written.
        host: Clock and jitter.
        trust_s: How long what is known to be current may be used.
    """

    def __init__(
        self,
        backplane: Backplane | Backplanes,
        stations: Sequence[Station],
        wire: Wire,
        host: Host,
        *,
        trust_s: float,
    ) -> None:
        self.backplane = backplane
        self.is_connected = False
        self._stations = {station.part: station for station in stations}
        self._turn = 0
        self._wire = wire
        self._host = host
        self.now = host.clock.now
        self._linger_s = trust_s + _LINGER_S
        self._starting = ForkLock()
        self._news: News = _nobody_waits
        self._renew: Callable[..., Coroutine[Any, Any, None]] | None = None
        self._forked()
        after_fork(self._forked)
        for station in stations:
            station.backplane.attended(self.start, station.ask)
            station.level.greet = station.greet

    def _forked(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._ear: Ear | None = None
        self.is_connected = False

    def start(self) -> None:
        """Start listening unless that goes on already; costs nothing then."""
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None or self._stop.is_set():
                return
            # Held weakly, so that a cache that nobody closes can go, and its thread with it.
            self._thread = in_background(partial(_listen, weakref.ref(self), self._stop), "smw-cache-listen")

    def connect(self) -> Ear | None:
        """Return a new connection, or None where it is of no use to try now."""
        up = [station for station in self._in_turn() if not station.level.breaker.is_open]
        if not up:
            return None
        ear = up[0].speaker.listen()
        self._ear = ear
        if self._stop.is_set():  # closed meanwhile, which has not seen this one
            ear.interrupt()
        self.is_connected = True
        self._news(AGAIN, None, None)  # what was told before this connection stood is lost
        return ear

    def lost(self, ear: Ear | None) -> None:
        """Take leave of a connection."""
        self.is_connected = False
        self._ear = None
        self._news(ALONE, None, None)
        if ear is not None:
            ear.close()

    @property
    def is_wanted(self) -> bool:
        """Whether memory was used of late."""
        return self.now() - self.backplane.wanted_at < self._linger_s

    def _in_turn(self) -> list[Station]:
        """Return all servers, another one first each time: one that hangs must not keep others from their turn."""
        self._turn += 1
        stations = list(self._stations.values())
        first = self._turn % len(stations)
        return stations[first:] + stations[:first]

    def beat(self) -> bool:
        """Ask the servers for their pulse; returns False where the connection does not bring what it should."""
        budget, brings = Budget(self._host.clock, HEARTBEAT_S), True
        for station in self._in_turn():
            asked = self.now()
            pulse = run_blocking(station.ask(budget=budget, mode="sync"))
            if pulse is not None:  # else its breaker looks after it
                brings = station.backplane.pulsed(pulse, asked=asked, told=self.now()) and brings
                if station.level.time.is_told and asked - station.level.time.learned_at > _TIME_EVERY_S:
                    run_blocking(station.level.learn_time(budget=budget, mode="sync"))
        return brings

    def carry(self, news: News, renew: Callable[..., Coroutine[Any, Any, None]]) -> None:
        """Have `news` told what is sent to this process alone, and `renew` called with every heartbeat."""
        self._news, self._renew = news, renew

    def renew(self) -> None:
        """Prolong what this process holds."""
        if self._renew is not None:
            run_blocking(self._renew(budget=Budget(self._host.clock, HEARTBEAT_S), mode="sync"))

    def take(self, message: bytes) -> None:
        """Take in one message."""
        if message[:2] in _MAIL:
            lease, _, blob = message[2:].partition(b"\n")
            self._news(message[:1].decode(), self._wire.key_of(lease.decode("utf-8", "replace")), blob or None)
            return
        try:
            told = self._wire.read(message)
        except ValueError:
            _log.debug("a message of another shape on the channel of drops")
            return
        station = self._stations.get(told.part)
        if station is not None:
            station.backplane.heard(told.number, told.scopes, now=self.now())

    def jittered(self, seconds: float) -> float:
        """Return `seconds`, a little less by chance."""
        return seconds * (0.8 + 0.2 * self._host.entropy.random())

    def facts(self) -> Iterator[Fact]:
        """Yield whether others are heard, and what was."""
        heard = self.backplane
        connected = float(self.is_connected)
        yield Fact("smw_cache_backplane_connected", "gauge", "1 while the drops of others are heard.", (), connected)
        yield Fact(
            "smw_cache_backplane_messages_total", "counter", "Drops of others that were heard.", (), heard.messages
        )
        yield Fact("smw_cache_backplane_gaps_total", "counter", "Times that memory was emptied.", (), heard.gaps)

    def close(self) -> None:
        """End the thread; idempotent."""
        self._stop.set()
        with self._starting:
            thread, ear = self._thread, self._ear
        if ear is not None:
            ear.interrupt()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_END_S)


def _nobody_waits(_how: str, _key: str | None, _blob: bytes | None) -> None:
    """Take no notice."""


def listener_of(engine: Engine, everything: str, *, trust_s: float) -> Listener | None:
    """Return what keeps an engine's backplane, or None where no server tells of drops.

    Args:
        engine: The levels.
        everything: The tag that every value carries.
        trust_s: How long what is known to be current may be used.
    """
    servers = engine.remote.tiers[0].servers if engine.remote.tiers else ()
    stations = []
    for level in servers:
        store = level.store
        part: str = getattr(store, "part", "")
        if not isinstance(store, Speaker) or (len(servers) > 1 and not part):
            return None  # what one tells is not heard over a connection to another
        stations.append(Station(level, engine.backplane.of_server(level), part))
    if not stations:
        return None
    wire = Wire(everything, engine.host.entropy)
    for station in stations:
        station.speaker.speak(wire)
    return Listener(engine.backplane, stations, wire, engine.host, trust_s=trust_s)


def _listen(ref: weakref.ref[Listener], stop: threading.Event) -> None:
    """Listen until told to stop, or until nobody holds the listener any more."""
    while not stop.is_set():
        listener, ear, pause_s = ref(), None, _AGAIN_S
        if listener is None:
            return
        try:
            ear = listener.connect()
            if ear is not None:
                del listener
                _attend(ref, ear, stop)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, memory then asks the server itself
            if getattr(error, "permanent", False):
                pause_s = _REFUSED_AGAIN_S
            if not stop.is_set():
                _log.debug("listening to the drops of other processes: %s", error)
        listener = ref()
        if listener is None:
            if ear is not None:
                ear.close()
            return
        listener.lost(ear)
        pause_s = listener.jittered(pause_s)
        del listener
        stop.wait(pause_s)


def _attend(ref: weakref.ref[Listener], ear: Ear, stop: threading.Event) -> None:
    """Take in what comes over one connection, and ask for the pulse in between."""
    wait_s, due = 0.0, float("-inf")
    while not stop.is_set():
        message = ear.hear(wait_s)
        listener = ref()
        if listener is None:
            return
        now = listener.now()
        ends = now + HEARTBEAT_S
        while message is not None:  # all that is there: the pulse is judged by what was heard
            listener.take(message)
            now = listener.now()
            message = ear.hear(0.0) if now < ends else None
        if now >= due:
            if listener.is_wanted and not listener.beat():
                return
            listener.renew()
            due = now + HEARTBEAT_S
        wait_s = max(0.0, due - now)
        del listener
