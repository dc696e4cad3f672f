"""One cached function under one cache: where the results of its calls belong, and which level answers them."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.answers import answered
from smw._kernel.bridge import on_asyncio
from smw._kernel.chain import Bound
from smw._kernel.compiler import Gear
from smw.cache.coherence.bookmark import READING
from smw.cache.coherence.collecting import tell, watched
from smw.cache.coherence.depending import joinable
from smw.cache.coherence.resulting import ResultTags
from smw.cache.functions.loads import Loads
from smw.cache.functions.placing import Placing, blamed
from smw.cache.levels.glance import Glimpse, glance
from smw.cache.loading.calling import Loading, passed
from smw.cache.loading.many import Many
from smw.cache.naming.arguments import UnkeyableError
from smw.cache.sight.stats import CacheInfo
from smw.cache.values.forms import Finding
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable
    from contextlib import AbstractContextManager

    from smw._kernel.call import Call, Target
    from smw._kernel.chain import Proceed
    from smw.cache.levels.engine import Engine, Look, Place
    from smw.cache.naming.names import Names
    from smw.cache.options import Options
    from smw.cache.values.forms import Policy

__all__ = ["CachedFunction"]

_NOBODY = nullcontext()


def _foreign_loop(name: str) -> ConfigError:
    what = f"{name} is awaited outside of asyncio, whose event loop cached coroutine functions need"
    fix = "cache a blocking function, and call it in a thread: trio.to_thread.run_sync"
    return ConfigError("SMW-C176", what, fix=fix)


class CachedFunction(Loads):
    """A decorated function bound to a cache.

    Args:
        target: The function.
        options: What the decorator was told.
        policy: How its results are kept.
        engine: The levels.
        names: How keys and tags are called.

    Attributes:
        begin: Called with every call that the compiled entry cannot answer, by whom it concerns that there are any.
    """

    def __init__(self, target: Target, options: Options, policy: Policy, engine: Engine, names: Names) -> None:
        super().__init__(target.name, options, policy, engine)
        self.target = target
        self.many = None if options.many is None else Many(options.many, target)
        self._placing = Placing(target, options, self.policy, names, self._remarks, memory=engine.memory)
        if options.result_tags:
            tags, lives_s = options.result_tags, policy.ttl_s + policy.stale_s
            self._result_tags = ResultTags(tags, engine, names, lives_s=lives_s)
        self._loading = Loading(target.name, engine.host, engine.watch)
        self._looking: set[Hashable] = set()
        self.begin: Callable[[], None] | None = None

    @property
    def placing(self) -> Placing:
        """Where its results belong."""
        return self._placing

    def bound(self) -> Bound | None:
        """Return what the chain runs; None where nothing is ever kept."""
        if self.policy.is_off:
            return Bound(self.around)
        if not self.keeps_any:
            return None if self.many is None else Bound(self._past)
        placing = self._placing
        if placing.gear_key is None:
            return Bound(self.around)
        get = watched(self._engine, placing.table.get)
        return Bound(self.around, Gear(get, self._engine.host.clock.now, self.stats))

    async def around(self, call: Call, proceed: Proceed) -> Any:
        """Answer from the levels, or call the function and keep its result."""
        if self.begin is not None:
            self.begin()
        if self.many is not None:
            proceed = self.many.loading(call)
        place = self.placed(call)
        if place is None:
            passed(self.target.name)
            return await proceed()
        entry = self._engine.fresh(place)
        if entry is not None:
            if self._is_due(entry) and (call.mode == "sync" or on_asyncio()):
                finding = await self._refreshed(call, place, self.loader(call, place, proceed), entry)
                return finding.take()[1]
            self.stats.hits += 1
            tell(self._engine, place, entry)
            return entry.copy()
        mode = call.mode
        if mode == "async" and not on_asyncio():
            raise _foreign_loop(self.target.name)
        with _NOBODY if self.many is None else self._expected(call, place, self.many):
            flight, look, landed = self.flight_of(place), None, self._landed
            if self.is_shared(place) and (flight not in self._looking or flight in self._sights or READING.get()):
                self._looking.add(flight)  # a look without a flight, which would cost more than the look itself
                try:
                    seen = await glance(self._engine, place, self.policy, mode)
                    if not isinstance(seen, Glimpse):
                        look = await self._engine.look(place, self.policy, mode, ahead=seen)
                finally:
                    self._looking.discard(flight)
                if isinstance(seen, Glimpse):
                    return self._handed_out(seen, call, place)
                found = None if look is None else look.found
                if found is not None and found.level != "l1":
                    self._count(found, call, place)
                    tell(self._engine, place, found.origin)
                    return found.take()[1]
            proceed = self.loader(call, place, proceed)
            finding = await self.find(call, place, proceed, flight=flight, look=look, landed=landed)
            taken, value = finding.take()
            return value if taken else await proceed()

    def _expected(self, call: Call, place: Place, many: Many) -> AbstractContextManager[None]:
        """Have the load of a call, if it comes to one, gathered with those that begin now."""
        return many.expecting(call) if call.mode == "async" and self.is_shared(place) else _NOBODY

    async def _past(self, call: Call, proceed: Proceed) -> Any:
        """Answer from `many=` where nothing is ever kept."""
        return await (proceed if self.many is None else self.many.loading(call))()

    def placed(self, call: Call) -> Place | None:
        """Return where the result of a call belongs, or None where the call goes past the cache, which is counted."""
        if self.policy.is_off:
            self.stats.others["none", "bypass"] += 1
            return None
        if self.options.condition is not None and not self._is_wanted(self.options.condition, call):
            return None
        try:
            return self._placing.of(call)
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
        is_foreseen = not (self.options.depends or self.options.result_tags)
        until = self._engine.fence.stamp(place.scopes) if is_foreseen else joinable(self._engine)
        return place.home is self._placing.table, place.key, until

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
        if self._looked_too_soon(flight, look):
            look = await self._engine.look(place, self.policy, call.mode)
        if look is not None and look.found is not None:
            entry = place.home.get(place.key) if look.found.level == "l1" else None
            if entry is not None and self._is_due(entry):
                return await self._refreshed(call, place, proceed, entry)
            self._count(look.found, call, place)
            tell(self._engine, place, look.found.origin)
            return look.found
        boarded = self._boarding(flight, look)
        seen = [] if look is None else [look.sight]
        if self.many is not None and boarded in self._flights:
            self.many.comes(call)
        load = partial(self._obtain, boarded, call, place, proceed, look=look, landed=landed, seen=seen)
        meanwhile, alone = self._patience.of(place, call.mode), self.options.flight == "off"
        flown: Awaitable[Finding]
        if alone and not meanwhile:
            flown = load()
        else:  # nobody else finds a load whose key is an object of its own, but the wait for it may end
            flown = self._flights.fly(object() if alone else boarded, load, call.mode, meanwhile=meanwhile)
        try:
            finding = await flown
        except Exception:  # raised again: an error too was made from what was read
            tell(self._engine, place, None)
            missed = tuple(seen[-1].missed) if seen else ()
            self._count(Finding("", copy=None, missed=missed), call, place)
            raise
        self._count(finding, call, place)
        tell(self._engine, place, finding.origin, self._resting.until(boarded) if finding.is_stale else float("inf"))
        return finding

    def _is_wanted(self, condition: Callable[..., object], call: Call) -> bool:
        """Tell whether a call uses the cache."""
        try:
            wanted = bool(answered(condition(*call.args, **call.kwargs)))
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
    def keeps_any(self) -> bool:
        """Whether the result of any call is kept."""
        return self.policy.ttl_s > 0 and bool(self.policy.in_memory or self.policy.names)

    @property
    def is_told_apart(self) -> bool:
        """Whether its keys tell it from every other function, in other processes too."""
        return self._placing.is_told_apart

    def keeps(self, call: Call) -> bool:
        """Tell whether the result of a call is kept at all."""
        if self.policy.is_off:
            return False
        return self.options.condition is None or self._is_wanted(self.options.condition, call)

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
            entries=sum(map(len, (self._placing.table, self._placing.texts, self._placing.warmed))),
            warmed=self.stats.warmed,
        )
