"""How the results of one function are loaded: once for all who ask, anew before they end; what stands in for it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.flight import Flights, RecursiveLoadError
from smw.cache.coherence.collecting import COLLECTING, tell
from smw.cache.coherence.depending import Origin, collecting, lasting, scopes_of
from smw.cache.functions.remarks import Remarks
from smw.cache.loading.negative import kept_classes, kept_exception
from smw.cache.loading.refresh import renewed
from smw.cache.loading.stale import REST_S, Resting, stale_of
from smw.cache.loading.ttl import Lifetimes
from smw.cache.loading.waiting import Patience
from smw.cache.naming.members import Members
from smw.cache.ports import Versions
from smw.cache.sight.records import Records, log
from smw.cache.sight.stats import Stats
from smw.cache.values.forms import Finding

if TYPE_CHECKING:
    from collections.abc import Hashable

    from smw._kernel.call import Call, Mode
    from smw._kernel.chain import Proceed
    from smw.cache.coherence.resulting import ResultTags
    from smw.cache.levels.engine import Engine, Look, Place
    from smw.cache.levels.glance import Glimpse
    from smw.cache.levels.memory import Entry
    from smw.cache.levels.remote import Sight
    from smw.cache.options import Options
    from smw.cache.values.forms import Policy

__all__ = ["Loads"]


class Loads(ABC):
    """The loads of one function.

    Args:
        function: ``module:qualname``.
        options: What the decorator was told.
        policy: How its results are kept.
        engine: The levels.
    """

    def __init__(self, function: str, options: Options, policy: Policy, engine: Engine) -> None:
        self.options = options
        self.stats = Stats()
        self._engine = engine
        self._remarks = Remarks(function, self.stats, engine.host)
        entropy, codec = engine.host.entropy, policy.codec
        lives = Lifetimes(options, jitter=engine.jitter, entropy=entropy, codec=codec, remarks=self._remarks)
        self._lives = lives
        self.policy = policy._replace(life=lives.of)
        self.kept_classes = kept_classes(options.cache_exceptions)
        self._errors = self.policy._replace(stale_s=0.0, ahead=None)
        self._members = Members(engine.memory)
        self._records = Records(function, options.ttl_s, clear=engine.host.profile == "development")
        self._flights = Flights(function, self._remarks.overdue)
        self._resting = Resting(engine)
        self._patience = Patience(function, options, self.stats, self._slow)
        self._sights: dict[Hashable, Sight] = {}
        self._landed = 0
        self._result_tags: ResultTags | None = None

    @abstractmethod
    def flight_of(self, place: Place) -> Hashable:
        """Return what is common to the loads of `place` until it is dropped."""

    @property
    def engine(self) -> Engine:
        """The levels."""
        return self._engine

    @property
    def landed(self) -> int:
        """How many loads have ended."""
        return self._landed

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
        if not seen or not loaded or loaded == seen or not loaded.is_whole:
            return flight
        return flight, seen

    def _looked_too_soon(self, flight: Hashable, look: Look | None) -> bool:
        """Tell whether `look` was before the leader opened the counters, and so cannot say whether its load is new."""
        leading = self._sights.get(flight)
        seen, loaded = look and look.sight.versions, leading and leading.versions
        if look is None or look.found is not None or not seen or not loaded:
            return False
        return loaded.is_whole and not seen.is_whole

    def collected(self, call: Call, place: Place, proceed: Proceed) -> tuple[Place, Proceed]:
        """Have collected what a result is dropped by besides its arguments' tags."""
        place, proceed = collecting(self.options, self._engine, place, proceed)
        tags = self._result_tags
        return (place, proceed) if tags is None else tags.around(place, proceed, call.mode)

    async def _obtain(
        self,
        flight: Hashable,
        call: Call,
        place: Place,
        proceed: Proceed,
        *,
        look: Look | None,
        landed: int,
        seen: list[Sight],
    ) -> Finding:
        engine, policy, epoch = self._engine, self.policy, self._engine.fence.epoch
        place, proceed = self.collected(call, place, proceed)
        if landed != self._landed and not policy.in_memory:
            look = None  # a load has ended since, perhaps of this very key; memory would have its value
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
            seen.append(sight)
        try:
            finding = await engine.obtain(place, policy, proceed, call.mode, look=look)
        except self.kept_classes as error:
            await self._keep_error(error, place, epoch, sight, call.mode)
            raise
        except Exception as error:
            spare = await self._spare(flight, place, call.mode, error)
            if spare is None:
                raise
            return spare
        finally:
            if sight is not None and self._sights.get(flight) is sight:  # else somebody loads too by now
                del self._sights[flight]
            self.adopt(call, place)
        self._landed += 1
        if not finding.lives:
            await self._supersede(place, sight, call.mode)
        if finding.refused is not None:
            self._remarks.uncached(*finding.refused)
            await self._supersede_elsewhere(place, sight, call.mode)
        return finding

    async def _keep_error(self, error: Exception, place: Place, epoch: int, sight: Sight | None, mode: Mode) -> None:
        life_s, kept = self._lives.shortened(self.options.negative_ttl_s or 0.0), kept_exception(error, self.stats)
        life_s = lasting(place, life_s, self._engine.host.clock.now())
        since = epoch if self._engine.fence.stands(scopes_of(place), epoch) else None
        if since is not None and self._has_older(place, sight):
            since = await self._dropped(place, epoch, mode)
        if kept is None:
            self._remarks.uncached("uncopyable-exception", type(error).__name__)
        elif since is not None:
            self._engine.put(place, self._errors, kept, ttl_s=life_s, epoch=since, sight=sight)

    def _has_older(self, place: Place, sight: Sight | None) -> bool:
        """Tell whether there is an older result of `place` that might yet stand in for a load that fails."""
        return self.policy.stale_s > 0 and (place.key in place.home or (sight is not None and sight.stale is not None))

    async def _supersede(self, place: Place, sight: Sight | None, mode: Mode) -> None:
        """Drop an older result of `place`, if it could stand in although a newer answer is known that is not kept."""
        if self._has_older(place, sight):
            await self.drop(place, mode)

    async def _supersede_elsewhere(self, place: Place, sight: Sight | None, mode: Mode) -> None:
        """Drop an older result of `place` that servers have kept beside a newer one, which memory has alone."""
        if sight is None or sight.stale is None:
            return
        look = await self._engine.look(place, self.policy, mode)
        if look.sight.stale is not None:
            await self.drop(place, mode)

    async def drop(self, place: Place, mode: Mode) -> None:
        """Drop the result of `place`, in all processes that may have it."""
        await self._dropped(place, self._engine.fence.epoch, mode)

    async def _dropped(self, place: Place, epoch: int, mode: Mode) -> int | None:
        """Drop the result of `place`; returns the epoch that began with that, None if one had begun since `epoch`."""
        engine, own = self._engine, place.scopes[:1]
        owed = engine.remote.owe((), own) if self.is_shared(place) else []
        with engine.memory.lock:
            stands = engine.fence.stands(scopes_of(place), epoch)
            engine.drop_here(own)
            since = engine.fence.epoch
        await engine.remote.drop(owed, budget=engine.budget(), mode=mode)
        return since if stands else None

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
            except self.kept_classes:
                raise
            except Exception as error:  # noqa: BLE001 - there is a value, which stood when the caller came
                self._remarks.not_refreshed(error)
        self._count(finding, call, place)
        tell(engine, place, finding.origin)
        return finding

    async def _renew(self, flight: Hashable, call: Call, place: Place, proceed: Proceed, entry: Entry) -> Finding:
        """Load a value anew that still stands; where that fails, it stands on."""
        engine, epoch, ends = self._engine, self._engine.fence.epoch, entry.expires
        place, proceed = self.collected(call, place, proceed)
        sights = partial(self._sights.__setitem__, flight)
        try:
            ends = entry.ahead.ends if entry.ahead is not None else ends
            finding = await renewed(engine, place, self.policy, proceed, call.mode, ends=ends, note=sights)
        except self.kept_classes as error:
            await self._keep_error(error, place, epoch, self._sights.get(flight), call.mode)
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
        if finding is None:
            return await self._left(call, place, proceed, entry)
        self._landed += 1
        self.stats.refreshes["ok"] += 1
        if not finding.lives:
            await self._supersede(place, None, call.mode)
        if finding.refused is not None:
            self._remarks.uncached(*finding.refused)
        return finding

    async def _left(self, call: Call, place: Place, proceed: Proceed, entry: Entry) -> Finding:
        """Return what stands while another process loads it anew, or wait for that where it has ended by now."""
        if entry.alive and entry.expires > self._engine.host.clock.now():
            return Finding("l1", copy=entry.copy, origin=entry)
        return await self._engine.obtain(place, self.policy, proceed, call.mode)

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
            self._remarks.slow()
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

    def _handed_out(self, glimpse: Glimpse, call: Call, place: Place) -> Any:
        """Count what a glance has found, tell of it as `tell` does, and return it."""
        level, value, counters, asked = glimpse
        if log.isEnabledFor(logging.DEBUG):
            self._records.answered(Finding(level, copy=None), call, place)
        others = self.stats.others
        if self.policy.in_memory:
            others["l1", "miss"] += 1
        others[level, "hit"] += 1
        if COLLECTING.get() is not None:
            tell(self._engine, place, Origin(place, Versions(counters[0], counters[1:]), asked))
        return value

    def close(self) -> None:
        """Have loads cancelled that nobody waits for; idempotent."""
        self._flights.close()

    async def aclose(self) -> None:
        """Cancel loads that nobody waits for, waiting for those of the running loop; idempotent."""
        await self._flights.aclose()
