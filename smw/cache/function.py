"""One cached function under one cache: answers its calls, lets one caller load, counts what happened."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.chain import Bound
from smw._kernel.compiler import Gear
from smw._kernel.flight import Flights, RecursiveLoadError
from smw.cache.collecting import is_anybody_collecting, tell, watched
from smw.cache.depending import collecting
from smw.cache.forms import Finding
from smw.cache.keys import UnkeyableError
from smw.cache.loading import Loading
from smw.cache.many import Many
from smw.cache.members import Members
from smw.cache.negative import kept_exception
from smw.cache.placing import Placing, blamed
from smw.cache.records import Records
from smw.cache.refresh import renewed
from smw.cache.remarks import Remarks
from smw.cache.stale import REST_S, Resting, stale_of
from smw.cache.stats import CacheInfo, Stats
from smw.cache.ttl import Lifetimes
from smw.cache.waiting import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from smw._kernel.call import Call, Mode, Target
    from smw._kernel.chain import Proceed
    from smw.cache.engine import Engine, Look, Place
    from smw.cache.forms import Policy
    from smw.cache.memory import Entry
    from smw.cache.names import Names
    from smw.cache.options import Options
    from smw.cache.remote import Sight

__all__ = ["CachedFunction"]


class CachedFunction:
    """A decorated function bound to a cache.

    Args:
        target: The function.
        options: What the decorator was told.
        policy: How its results are kept.
        engine: The levels.
        names: How keys and tags are called.
    """

    def __init__(self, target: Target, options: Options, policy: Policy, engine: Engine, names: Names) -> None:
        self.target = target
        self.options = options
        self.stats = Stats()
        self._engine = engine
        self._remarks = Remarks(target.name, self.stats, engine.host)
        entropy, codec = engine.host.entropy, policy.codec
        lives = Lifetimes(options, jitter=engine.jitter, entropy=entropy, codec=codec, remarks=self._remarks)
        self._lives = lives
        self.policy = policy = policy._replace(life=lives.of)
        self._errors = policy._replace(stale_s=0.0, ahead=None)
        self._placing = Placing(target, options, policy, names, self._remarks)
        self._members = Members(engine.memory)
        self._loading = Loading(target.name, engine.host, engine.watch)
        self._records = Records(target.name, options.ttl_s, clear=engine.host.profile == "development")
        self._flights = Flights()
        self.many = None if options.many is None else Many(options.many, target)
        self._resting = Resting(engine)
        self._patience = Patience(target.name, options, self.stats, self._slow)
        self._looking: set[Hashable] = set()
        self._sights: dict[Hashable, Sight] = {}
        self._landed = 0

    def bound(self) -> Bound | None:
        """Return what the chain runs; None where nothing is ever kept."""
        if self.policy.ttl_s <= 0 or not (self.policy.in_memory or self.policy.names):
            return None if self.many is None else Bound(self._past)
        placing = self._placing
        if placing.gear_key is None:
            return Bound(self.around)
        get: Any = placing.table.get
        get = watched(self._engine, get) if is_anybody_collecting() else get
        return Bound(self.around, Gear(get, self._engine.host.clock.now, self.stats))

    async def around(self, call: Call, proceed: Proceed) -> Any:
        """Answer from the levels, or call the function and keep its result."""
        if self.many is not None:
            proceed = self.many.loading(call)
        place = self.placed(call)
        if place is None:
            return await proceed()
        entry = self._engine.fresh(place)
        if entry is not None:
            if self._is_due(entry):
                finding = await self._refreshed(call, place, self.loader(call, place, proceed), entry)
                return finding.take()[1]
            self.stats.hits += 1
            tell(self._engine, place, entry)
            return entry.copy()
        proceed = self.loader(call, place, proceed)
        flight, look, landed = self.flight_of(place), None, self._landed
        if self.is_shared(place) and (flight in self._sights or flight not in self._looking):
            look = await self._look(flight, place, call.mode)
        finding = await self.find(call, place, proceed, flight=flight, look=look, landed=landed)
        taken, value = finding.take()
        return value if taken else await proceed()

    async def _past(self, call: Call, proceed: Proceed) -> Any:
        """Answer from `many=` where nothing is ever kept."""
        return await (proceed if self.many is None else self.many.loading(call))()

    def placed(self, call: Call) -> Place | None:
        """Return where the result of a call belongs, or None where the call goes past the cache, which is counted."""
        if self.options.condition is not None and not self._is_wanted(self.options.condition, call):
            return None
        try:
            return self.place(call)
        except UnkeyableError as error:
            known = self._remarks.knows(error.reason)
            self._remarks.uncached(error.reason, error.what if known else blamed(call, error))
        except TypeError:
            pass  # arguments that do not fit: Python's own complaint is the best one
        return None

    def loader(self, call: Call, place: Place, proceed: Proceed, *, is_timed: bool = True) -> Proceed:
        """Return what loads the result of a call that no level can answer."""
        if is_timed:
            proceed = self.timed(proceed)
        behind = self._engine.behind
        return proceed if behind is None else behind.or_load(self, place, call, proceed)

    def timed(self, proceed: Proceed) -> Proceed:
        """Return `proceed` as a load that is timed and seen."""
        return self._loading.around(proceed)

    def flight_of(self, place: Place) -> Hashable:
        """Return what is common to the loads of `place` until it is dropped."""
        return place.home is self._placing.table, place.key, self._engine.fence.stamp(place.scopes)

    async def find(
        self, call: Call, place: Place, proceed: Proceed, *, flight: Hashable, look: Look | None, landed: int
    ) -> Finding:
        """Return what a look has found, or load, or wait for who loads already.

        Args:
            call: The call.
            place: Where its result belongs.
            proceed: Loads it.
            flight: What `flight_of` has returned.
            look: What a look at the servers has shown since; None where there was none.
            landed: How many loads had ended before.
        """
        if look is not None and look.found is not None:
            entry = place.home.get(place.key) if look.found.level == "l1" else None
            if entry is not None and self._is_due(entry):
                return await self._refreshed(call, place, proceed, entry)
            self._count(look.found, call, place)
            tell(self._engine, place, look.found.origin)
            return look.found
        boarded = self._boarding(flight, look)
        load = partial(self._obtain, boarded, call, place, proceed, look=look, landed=landed)
        alone = self.options.flight == "off"
        meanwhile = self._patience.of(place, call.mode)
        flown = load() if alone else self._flights.fly(boarded, load, call.mode, meanwhile=meanwhile)
        try:
            finding: Finding = await flown
        except Exception:
            tell(self._engine, place, None)
            raise
        self._count(finding, call, place)
        tell(self._engine, place, finding.origin)
        return finding

    @property
    def engine(self) -> Engine:
        """The levels."""
        return self._engine

    @property
    def landed(self) -> int:
        """How many loads have ended."""
        return self._landed

    def _is_wanted(self, condition: Callable[..., object], call: Call) -> bool:
        """Tell whether a call uses the cache."""
        try:
            wanted = bool(condition(*call.args, **call.kwargs))
        except Exception as error:  # noqa: BLE001 - the function itself may well answer
            self._remarks.uncached("failing-condition", type(error).__name__)
            return False
        if not wanted:
            self.stats.others["none", "bypass"] += 1
        return wanted

    def place(self, call: Call) -> Place:
        """Return where the result of a call belongs.

        Raises:
            UnkeyableError: It has no key.
            TypeError: Its arguments do not fit.
        """
        return self._placing.of(call)

    @property
    def is_told_apart(self) -> bool:
        """Whether its keys tell it from every other function, in other processes too."""
        return self._placing.is_told_apart

    def keeps(self, call: Call) -> bool:
        """Tell whether the result of a call is kept at all."""
        return self.options.condition is None or self._is_wanted(self.options.condition, call)

    def adopt(self, call: Call, place: Place) -> None:
        """Let a result in memory that belongs to an instance die with it."""
        if place.of_instance:
            self._members.adopt(next(iter(call.arguments.values())), place)

    def is_shared(self, place: Place) -> bool:
        """Tell whether servers know what was dropped of `place`."""
        return place.text is not None and bool(self._engine.remote.tiers)

    def _boarding(self, flight: Hashable, look: Look | None) -> Hashable:
        """Return the flight to join: not one whose load began before a drop elsewhere that `look` has seen."""
        leading = self._sights.get(flight)
        seen, loaded = look and look.sight.versions, leading and leading.versions
        if not seen or not loaded or loaded == seen or None in (loaded.fence, *loaded.generations):
            return flight
        return flight, seen

    async def _look(self, flight: Hashable, place: Place, mode: Mode) -> Look:
        """Look at the servers without a flight, which would cost more than the look itself."""
        self._looking.add(flight)
        try:
            return await self._engine.look(place, self.policy, mode)
        finally:
            self._looking.discard(flight)

    async def _obtain(
        self, flight: Hashable, call: Call, place: Place, proceed: Proceed, *, look: Look | None, landed: int
    ) -> Finding:
        engine, policy, epoch = self._engine, self.policy, self._engine.fence.epoch
        place, proceed = collecting(self.options, self._engine, place, proceed)
        if landed != self._landed:
            look = None  # a load has ended since, perhaps of this very key
        if look is None and self.is_shared(place) and engine.fresh(place) is None:
            look = await engine.look(place, policy, call.mode)
        if flight in self._resting and engine.fresh(place) is None and (look is None or look.found is None):
            spare = stale_of(engine, place, policy, look)
            if spare is not None:
                return spare
        sight = None
        if look is not None:
            epoch, sight = look.epoch, look.sight
            self._sights[flight] = sight
        try:
            finding = await engine.obtain(place, policy, proceed, call.mode, look=look)
        except self.options.cache_exceptions as error:
            self._keep_error(error, place, epoch, sight)
            raise
        except Exception as error:
            spare = await self._spare(flight, place, call.mode, error)
            if spare is None:
                raise
            return spare
        finally:
            self._sights.pop(flight, None)
            self.adopt(call, place)
        self._landed += 1
        if finding.refused is not None:
            self._remarks.uncached(*finding.refused)
        return finding

    def _keep_error(self, error: Exception, place: Place, epoch: int, sight: Sight | None) -> None:
        life_s, kept = self._lives.shortened(self.options.negative_ttl_s or 0.0), kept_exception(error, self.stats)
        self._engine.put(place, self._errors, kept, ttl_s=life_s, epoch=epoch, sight=sight)

    def _is_due(self, entry: Entry) -> bool:
        """Tell whether the caller of this moment is to have a value loaded anew that still stands."""
        host = self._engine.host
        return entry.ahead is not None and entry.ahead.is_due(host.clock.now(), host.entropy.random)

    async def _refreshed(self, call: Call, place: Place, proceed: Proceed, entry: Entry) -> Finding:
        """Return what stands, having it loaded anew: behind the caller's back or, in mode sync, by the caller."""
        engine, flight = self._engine, self.flight_of(place)
        begun = self._flights.depart(flight, partial(self._renew, flight, call, place, proceed, entry), call.mode)
        finding = Finding("l1", copy=entry.copy, origin=entry)
        if begun is not None and call.mode == "sync":
            try:
                newer = await begun
                taken, value = newer.take()
                finding = Finding("l1", copy=None, first=(value,), origin=newer.origin) if taken else finding
            except self.options.cache_exceptions:
                raise
            except Exception as error:  # noqa: BLE001 - there is a value, which stood when the caller came
                self._remarks.not_refreshed(error)
        self._count(finding, call, place)
        tell(engine, place, finding.origin)
        return finding

    async def _renew(self, flight: Hashable, call: Call, place: Place, proceed: Proceed, entry: Entry) -> Finding:
        """Load a value anew that still stands; where that fails, it stands on."""
        engine, epoch, ends = self._engine, self._engine.fence.epoch, entry.expires
        place, proceed = collecting(self.options, self._engine, place, proceed)
        sights = partial(self._sights.__setitem__, flight)
        try:
            ends = entry.ahead.ends if entry.ahead is not None else ends
            finding = await renewed(engine, place, self.policy, proceed, call.mode, ends=ends, note=sights)
        except self.options.cache_exceptions as error:
            self._keep_error(error, place, epoch, self._sights.get(flight))
            raise
        except Exception as error:
            self.stats.refreshes["failed"] += 1
            self._remarks.not_refreshed(error)
            if entry.alive and entry.expires > engine.host.clock.now():
                return Finding("l1", copy=entry.copy, origin=entry)
            spare = await self._spare(flight, place, call.mode, error)
            if spare is None:
                raise
            return spare
        finally:
            self._sights.pop(flight, None)
            entry.postpone(engine.host.clock.now() + REST_S)
            self.adopt(call, place)
        self._landed += 1
        self.stats.refreshes["ok"] += 1
        if finding.refused is not None:
            self._remarks.uncached(*finding.refused)
        return finding

    async def _spare(self, flight: Hashable, place: Place, mode: Mode, error: Exception) -> Finding | None:
        """Return what is handed out although the function has raised, asking the servers once more what stands."""
        spare = None if isinstance(error, RecursiveLoadError) else await self._instead(place, mode)
        if spare is not None and spare.is_stale:
            self._resting.failed(flight)
            self._remarks.stale(type(error).__name__)
        return spare

    async def _slow(self, place: Place, mode: Mode) -> Finding | None:
        """Return what is handed out to a caller who has waited long enough."""
        spare = await self._instead(place, mode)
        if spare is not None and spare.is_stale:
            self._remarks.stale("timeout")
        return spare

    async def _instead(self, place: Place, mode: Mode) -> Finding | None:
        """Return what a server has got meanwhile, or else what has expired and is not dropped."""
        if self.policy.stale_s <= 0:
            return None
        look = await self._engine.look(place, self.policy, mode) if self.is_shared(place) else None
        return look.found if look is not None and look.found else stale_of(self._engine, place, self.policy, look)

    def _count(self, finding: Finding, call: Call, place: Place) -> None:
        self._records.answered(finding, call, place)
        if finding.level == "l1" and not finding.is_stale:
            self.stats.hits += 1
            return
        others = self.stats.others
        if self.policy.in_memory and finding.level != "l1":
            others["l1", "miss"] += 1
        for name in finding.missed:
            others[name, "miss"] += 1
        if finding.level:
            others[finding.level, "stale" if finding.is_stale else "hit"] += 1

    def close(self) -> None:
        """Have loads cancelled that nobody waits for; idempotent."""
        self._flights.close()

    async def aclose(self) -> None:
        """Cancel loads that nobody waits for, waiting for those of the running loop; idempotent."""
        await self._flights.aclose()

    def key_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the full key of a call.

        Raises:
            ConfigError: It has none.
        """
        return self._placing.key_for(args, kwargs)

    def info(self) -> CacheInfo:
        """Return what it is set to and has done."""
        others = self.stats.others.copy()
        levels = (("l1",) if self.policy.in_memory else ()) + self.policy.names
        return CacheInfo(
            fn=self.target.name,
            ttl_s=self.options.ttl_s,
            levels=levels,
            hits={level: others[level, "hit"] + (self.stats.hits if level == "l1" else 0) for level in levels},
            misses={level: others[level, "miss"] for level in levels},
            stale={level: others[level, "stale"] for level in levels},
            negative=others["l1", "negative"],
            bypassed=others["none", "bypass"],
            uncached=others["none", "uncached"],
            entries=len(self._placing.table) + len(self._placing.texts),
        )
