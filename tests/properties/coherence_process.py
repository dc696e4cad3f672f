"""A process of the search: the real engine, its coroutines advanced one step at a time, each reached state named once.

A process is deterministic: what it does next follows from what was fed to it. So every distinct state of it (its
coroutines with their local variables, memory, fence and debts) gets a number, and a step from one number to the next
is computed by the real code once and looked up ever after.
"""

from __future__ import annotations

import concurrent.futures
import types
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from smw._kernel.guard import Allowance
from smw._kernel.host import Host
from smw.cache.coherence.backplane import Backplane
from smw.cache.coherence.fence import Fence
from smw.cache.coherence.planes import Backplanes
from smw.cache.coherence.wire import Wire
from smw.cache.functions.placing import Placing
from smw.cache.levels.ahead import read_ahead
from smw.cache.levels.engine import Engine, Place
from smw.cache.levels.level import Level
from smw.cache.levels.memory import Entry, Memory, Terms
from smw.cache.levels.remote import Remote, Tier
from smw.cache.loading.leasing import Leasing
from smw.cache.loading.stepping import WAIT
from smw.cache.naming.names import fence_of
from smw.cache.ports import Pulse, StoreFailedError, Versions
from smw.cache.strategies.replacing import look_before, replace
from smw.cache.values.codec import Codec
from smw.cache.values.envelope import Envelope, Letter
from smw.cache.values.forms import Policy
from smw.testing import FakeClock
from tests.properties.coherence_fleet import FleetEngine, SteppedFleet, SteppedListener, answered, fleet_of
from tests.properties.coherence_servers import BEGAN, EPOCH, GUARD, NUMBER, Request, SteppedMemcached, SteppedRedis

TRUST_S = 1.0
TTL_S = 20_000.0
TAG, EVERYTHING, KEY = "smw:m:t:a", "smw:m:t:*", "smw:m:k"
COUNTERS = (fence_of(KEY), EVERYTHING, TAG)


class Numbers:
    """Entropy without chance: numbers that no other process draws."""

    def __init__(self, process: int) -> None:
        self.process, self.drawn = process, 0

    def random(self) -> float:
        return 0.5

    def token_bytes(self, count: int) -> bytes:
        self.drawn += 1
        return ((self.process + 1) * 1000 + self.drawn).to_bytes(count, "big")


def process_of(name: str) -> int:
    """Return the number of the process that calls itself so in messages."""
    return int(name, 16) // 1000 - 1


class Closed:
    """A breaker that never opens: the search makes every request fail or not as it likes."""

    is_open = False

    def allows(self) -> bool:
        return True

    def ok(self) -> None:
        return

    def failed(self, _kind: str, **_how: Any) -> None:
        return


class SteppedLevel(Level):
    """A level whose debt is paid by a step of the search instead of a thread."""

    def __init__(self, *args: Any, threads: bool, **more: Any) -> None:
        super().__init__(*args, **more)
        self.breaker = Closed()
        self.threads = threads

    def wake(self) -> None:
        return

    def _failed(self, error: StoreFailedError, took_s: float) -> None:
        assert error.kind == "timeout", "a failure that the search has not made: it would look at nothing"
        super()._failed(error, took_s)

    async def drop(self, *args: Any, **more: Any) -> None:
        if self.threads:
            await Request("pause")  # here a thread may be held up, a coroutine is not
        await super().drop(*args, **more)


class Naive(Remote):
    """Takes whatever a server has, and stores whatever was loaded."""

    def judged(self, level, key, blob, now, scopes, *, is_fenced):
        letter = None if blob is None else self._envelope.open(blob, key.encode())
        now = letter and Versions(letter.fence, letter.generations)
        return super().judged(level, key, blob, now, scopes, is_fenced=False)


class Setup(NamedTuple):
    """What the processes of a search have and do.

    Attributes:
        levels: Levels behind memory.
        by: ``tag`` or ``key``: how writers drop; ``put``: they put the new value in place.
        readers: Readers of each process.
        writers: Writers of each process.
        naive: Compare nothing, as most caches do: what the search must catch.
        names: Levels behind memory that keep values; all of them if None.
        trust_s: How long memory answers alone.
        storable: Whether values have a form as bytes.
        warm: Begin with counters that exist, as they do on a server that has been used.
        threads: Hold up writers also where coroutines are not.
        hears: Processes that are told what others drop.
        filled: Begin with a value in the memory of every process.
        deaf: Take memory for current whatever was missed: what the search must catch.
        shards: Servers that share L2's keys, in the order in which they are told of a drop; the key lies on ``l2``.
        pulsed: The shards that are asked for their pulse.
        astray: Judge memory by what the other shard tells: what the search must catch.
        starts: The first reader of each process comes as it starts, and fills memory from L2, which has a value.
        lax: Keep what a start has read whatever was dropped meanwhile: what the search must catch.
        stocked: Begin with a value on every server.
        skews: How far the wall clock of each process is ahead, in seconds.
        vain: Take the wall clock of a process for the server's: what the search must catch.
        leases: One process loads for all of them.
        enclosed: Send the value along with the news that it is there.
        late: Readers of each process that begin when an invalidation has returned.
        awaited: Have writers begin while somebody waits for another process, and late readers when those before them
            have ended or wait, which leaves out most schedules.
        flaw: Something that is wrong with a fleet: what the search must catch.
    """

    levels: tuple[str, ...] = ("l2",)
    by: str = "tag"
    readers: tuple[int, ...] = (1, 1)
    writers: tuple[int, ...] = (1, 0)
    naive: bool = False
    names: tuple[str, ...] | None = None
    trust_s: float = TRUST_S
    storable: bool = True
    warm: bool = True
    threads: bool = False
    hears: tuple[int, ...] = ()
    filled: bool = False
    deaf: bool = False
    shards: tuple[str, ...] = ("l2",)
    pulsed: tuple[str, ...] = ("l2", "other")
    astray: bool = False
    starts: bool = False
    lax: bool = False
    stocked: bool = False
    skews: tuple[float, ...] = (0.0, 0.0, 0.0)
    vain: bool = False
    leases: bool = False
    enclosed: bool = True
    late: tuple[int, ...] = (0, 0, 0)
    awaited: bool = False
    flaw: str = ""


class LoadFailedError(Exception):
    """The user's function has failed."""


def stored_first() -> bytes:
    """Return what a server has that was asked for before."""
    encoding, payload = Codec().pack(1)
    letter = Letter(encoding, payload, int(EPOCH * 1000), int(TTL_S * 1000), 1, (2, 3))
    return Envelope(compress_from=None, seal=None).close(letter, KEY.encode())


class Unstorable:
    """A value that stays in memory."""

    def __init__(self, version: int) -> None:
        self.version = version


class Process:
    """One process: the real engine, and the coroutines that use it."""

    def __init__(self, number: int, setup: Setup) -> None:
        self.setup, self.skew, self.reads = setup, setup.skews[number], setup.readers[number] > 0
        self.clock = FakeClock(wall=EPOCH + self.skew, now=0.0)
        self.host = Host("m", "testing", self.clock, Numbers(number))
        self.fence = Fence(self.clock)
        self.wire = Wire(EVERYTHING, self.host.entropy) if setup.hears or setup.leases else None
        shards = [(shard, shard if len(setup.shards) > 1 else "") for shard in setup.shards]
        stores = [("l2", SteppedRedis(self.wire, *shard)) for shard in shards if "l2" in setup.levels]
        stores += [("l3", SteppedMemcached(self.clock, self.host.entropy)) for name in setup.levels if name == "l3"]
        self.levels = [
            SteppedLevel(name, store, self.host, threads=setup.threads, timeout_s=1e9, everything=EVERYTHING)
            for name, store in stores
        ]
        for level in self.levels:
            if level.time.is_told:
                level.time.learned(EPOCH + (self.skew if setup.vain else 0.0), asked=0.0, told=0.0)
            if setup.naive or setup.lax or setup.flaw:
                level.receipts.note = lambda *_what: None
        tiers = []
        for name in setup.levels:
            servers = tuple(level for level in self.levels if level.name == name)
            mine = next((level for level in servers if getattr(level.store, "where", "") == "l2"), servers[0])
            tiers.append(Tier(name, servers, lambda _key, mine=mine: mine))
        self.remote = (Naive if setup.naive else Remote)(
            tiers, envelope=Envelope(compress_from=None, seal=None), fence=self.fence, clock=self.clock, caps_s={}
        )
        self.memory = Memory(100, 2**20)
        self.engine = (FleetEngine if setup.leases else Engine)(
            self.host,
            memory=self.memory,
            remote=self.remote,
            fence=self.fence,
            budget_s=1e9,
            trust_s=setup.trust_s,
            l1_ttl_s=float("inf"),
        )
        backplane = self.engine.backplane
        first = tiers[0].servers
        self.planes = {getattr(level.store, "part", ""): (level, backplane.of_server(level)) for level in first}
        for _, plane in self.planes.values():
            if number in setup.hears:  # it has listened for a while
                plane.pulsed(Pulse(int(BEGAN[NUMBER]), BEGAN[GUARD].decode(), is_master=True), asked=0.0, told=0.0)
            if setup.deaf:
                plane.pulsed = partial(self._believed, plane)
        if setup.astray:
            backplane.of = lambda _key: next(plane for part, (_, plane) in self.planes.items() if part != "l2")
        self.table: dict[Any, Any] = {}
        tags = (EVERYTHING, TAG)
        self.place = Place(self.table, "k", KEY, tags, (KEY, *tags))
        self.started = not setup.starts
        self.placing: Placing = object.__new__(Placing)  # of which only the part is used that knows no function
        self.placing.warmed, self.placing._memory = {}, self.memory
        names = setup.levels if setup.names is None else setup.names
        self.policy = Policy(TTL_S, "share", True, names, Codec())
        self.running: dict[str, Any] = {}
        self.waits: dict[str, concurrent.futures.Future[Any]] = {}
        if setup.leases:
            self._lease()
        if setup.filled:
            ticket = Versions(1, (2, 3))
            terms = Terms(TTL_S, TRUST_S, ticket=ticket, asked=0.0)
            self.memory.put(self.table, "k", 1, None, TRUST_S, 1, self.place.scopes, self.fence, 0, terms)

    def _lease(self) -> None:
        """Have one process load for all."""
        self.engine.fleet = fleet_of(self.engine, self.wire, trust_s=self.setup.trust_s, flaw=self.setup.flaw)
        self.place = self.place._replace(is_stepped=True)
        self.policy = self.policy._replace(is_of_fleet=True)
        for level in self.levels:
            level.store.most_enclosed = level.store.most_enclosed if self.setup.enclosed else 0
            if self.setup.flaw:  # what is remembered of drops would make up for some flaws
                level.receipts.note = lambda *_what, **_more: None

    def _hear(self, message: Any, now: float) -> None:
        fleet = self.engine.fleet
        if message == "cut":
            fleet._listener.reconnect()
        elif isinstance(message[-1], bytes):
            fleet._listener.take(message[-1])
        else:
            told = self.wire.read(" ".join(map(str, message)).encode())
            self.planes[told.part][1].heard(told.number, told.scopes, now=now)

    def feed(self, actor: str, reply: Any, now: float) -> tuple[str, Any]:
        """Advance one coroutine; returns ``("asks", request)`` or ``("ends", result)``."""
        self.clock._now, self.clock._wall = now, EPOCH + now + self.skew
        if actor == "ear":
            self._hear(reply, now)
            return "ends", None
        coroutine = self.running.get(actor)
        if coroutine is None:
            coroutine = self.running[actor] = getattr(self, f"_{actor.rstrip('0123456789')}")(reply)
            reply = None
        self.waits.pop(actor, None)
        try:
            what, *about = coroutine.send(reply)
        except StopIteration as stop:
            del self.running[actor]
            return "ends", stop.value
        if what == WAIT:
            self.waits[actor], *about = about[0]
        return "asks", (what, *about)

    async def _reader(self, _start: Any) -> tuple[str, int | None]:
        async def load(*under: Any) -> Any:
            version = await Request("load", *under)
            if version is None:
                raise LoadFailedError
            return version if self.setup.storable else Unstorable(version)

        if not self.started:
            self.started = True
            await self._start_warm()
        self.placing._adopt(self.place)
        try:
            if self.setup.leases:
                obtained = self.engine.obtain(self.place, self.policy, load, "sync")
                finding = await answered(self.engine, self.policy, obtained)
            else:
                finding = await self.engine.obtain(self.place, self.policy, load, "async")
        except LoadFailedError:
            return "error", None
        value = finding.take()[1]
        return finding.level, value if self.setup.storable else value.version

    async def _start_warm(self) -> None:
        """Read what a start reads, and keep it where the first call will find it."""
        place = self.place._replace(home=self.placing.warmed, key=KEY)
        (ahead,) = await read_ahead(self.engine, [place], "async")
        ahead = ahead._replace(epoch=1_000_000) if self.setup.lax and ahead else ahead
        await self.engine.look(place, self.policy, "async", ahead=ahead)

    async def _writer(self, version: int) -> None:
        if self.setup.by == "put":
            before = await look_before(self.engine, self.place, self.policy, "async")
            written = await Request("source", version)
            value = written if self.setup.storable else Unstorable(written)
            await replace(self.engine, self.place, self.policy, value, before=before, mode="async")
            return
        await Request("source", version)
        by_tag = self.setup.by == "tag"
        # One shard after the other, as blocking code tells them: an event loop would tell them at once.
        mode = "async" if len(self.setup.shards) == 1 else "sync"
        await self.engine.drop([TAG] if by_tag else [], [] if by_tag else [KEY], mode)

    async def _payer(self, _start: Any) -> None:
        for level in self.levels:
            while level.debt:
                owed = level.debt.batch()
                try:
                    await level._drop(owed, mode="async", timeout_s=1.0)
                except StoreFailedError:
                    return
                level.debt.settle(owed)

    @staticmethod
    def _believed(plane: Backplane, _pulse: Any, *, asked: float, told: float) -> None:
        plane.standing = plane.standing[0], asked

    async def _pulser(self, _start: Any) -> None:
        for level, plane in self.planes.values():
            if level.store.where not in self.setup.pulsed:
                continue
            asked = self.clock.now()
            try:
                pulse = await level.store.pulse(mode="async", timeout_s=1.0)
            except StoreFailedError:
                continue
            plane.pulsed(pulse, asked=asked, told=self.clock.now())
        if self.engine.fleet is not None:
            await self.engine.fleet.leasing.renew(mode="sync", budget=self.engine.budget())

    @property
    def owes(self) -> bool:
        return any(level.debt for level in self.levels)

    @property
    def woken(self) -> frozenset[str]:
        """The coroutines that wait for others and have been told something."""
        return frozenset(actor for actor, future in self.waits.items() if future.done())

    def _leased(self) -> Any:
        fleet = self.engine.fleet
        if fleet is None:
            return ()
        held = tuple(frozenset(level.store._leases) for level in self.levels if level.name == "l2")
        return held, frozen(fleet._vain), frozen(fleet.leasing._since), fleet._listener.is_connected

    def state(self) -> Any:
        """Return everything that decides what it does next, as one value."""
        entries = self.table.get("k"), self.placing.warmed.get(KEY)
        return (
            tuple(sorted((actor, frozen(coroutine)) for actor, coroutine in self.running.items())),
            self.started,
            tuple(
                entry and (frozen(entry.value), entry.deadline, entry.expires, entry.ticket, entry.asked)
                for entry in entries
            ),
            tuple((plane.standing, plane._heard, plane._reign, plane._awaited) for _, plane in self.planes.values()),
            self.fence.epoch,
            tuple(sorted(self.fence._raised.items())),
            tuple((frozen(x.debt._counters), frozen(x.debt._keys), x.debt._sequence) for x in self.levels),
            tuple((frozen(x.receipts._of) if self.reads else (), x.time._ahead, x.time.due) for x in self.levels),
            self.host.entropy.drawn,
            self._leased(),
        )


_PLAIN = (int, float, str, bytes, bool, type(None))
_STATELESS = (Policy, Envelope, Codec, Place, FakeClock, SteppedRedis, SteppedMemcached, type, Allowance)
"""The last is that of 1e9 seconds, which is never spent."""
_NAMED = (Process, Engine, Backplane, Backplanes, Wire, Remote, Level, Host, Memory, Fence, *_STATELESS)
_NAMED = (*_NAMED, FleetEngine, SteppedFleet, SteppedListener, Leasing)


def frozen(thing: Any) -> Any:  # noqa: PLR0911 - one answer for each kind of thing
    """Return a value that is equal for things in the same state; what `Process.state` tells itself is only named."""
    if isinstance(thing, _PLAIN):
        return thing
    if isinstance(thing, _NAMED):
        return type(thing).__name__, getattr(thing, "name", ""), getattr(getattr(thing, "store", thing), "part", "")
    if isinstance(thing, Entry):  # without the table that has it
        shown = thing.value, thing.deadline, thing.expires, thing.ticket, thing.asked, thing.alive, thing.basis
        return "Entry", *map(frozen, shown)
    if isinstance(thing, list | tuple):
        return type(thing).__name__, *map(frozen, thing)
    if isinstance(thing, dict):
        return tuple(sorted((repr(frozen(key)), frozen(value)) for key, value in thing.items()))
    if isinstance(thing, concurrent.futures.Future):
        return "Future", thing.done() and thing.result()
    if isinstance(thing, types.CoroutineType):
        frame = thing.cr_frame
        return thing.cr_code.co_qualname, frame.f_lasti, frozen(frame.f_locals), frozen(thing.cr_await)
    if isinstance(thing, types.GeneratorType):
        return thing.gi_code.co_qualname, thing.gi_frame.f_lasti, frozen(thing.gi_frame.f_locals)
    if isinstance(thing, types.MethodType):
        return thing.__func__.__qualname__, frozen(thing.__self__)
    if isinstance(thing, types.FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        return thing.__qualname__, *map(frozen, cells)
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    names = names or list(getattr(thing, "__dict__", {}))
    return type(thing).__qualname__, *(frozen(getattr(thing, name, None)) for name in names)


class Steps:
    """The states of one process that were reached, and the steps between them.

    Args:
        make: Makes the process as it starts.
    """

    def __init__(self, make: Callable[[], Process]) -> None:
        self._make = make
        self._numbers: dict[Any, int] = {make().state(): 0}
        self._histories: list[tuple[Any, ...]] = [()]
        self._steps: dict[tuple[int, Any], tuple[int, tuple[str, Any], bool]] = {}
        self.owing: dict[int, bool] = {}
        self.woken: dict[int, frozenset[str]] = {}

    def __len__(self) -> int:
        return len(self._histories)

    def take(self, state: int, actor: str, reply: Any, now: float) -> tuple[int, tuple[str, Any], bool]:
        """Return the state after feeding `reply` to `actor`, what that actor does then, and whether debt is left."""
        fed = actor, reply, now
        known = self._steps.get((state, fed))
        if known is None:
            process = self._make()
            history = (*self._histories[state], fed)
            for step in history:
                outcome = process.feed(*step)
            after = process.state()
            number = self._numbers.get(after)
            if number is None:
                number = self._numbers[after] = len(self._histories)
                self._histories.append(history)
            known = self._steps[state, fed] = number, outcome, process.owes
            self.owing[number] = process.owes
            self.woken[number] = process.woken
            for coroutine in process.running.values():
                coroutine.close()
        return known
