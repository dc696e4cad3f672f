"""One cached function under one cache: keys of its calls, where their results belong, what is counted."""

from __future__ import annotations

import logging
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.call import Call
from smw._kernel.chain import Bound
from smw._kernel.compiler import UNKEYED, Gear
from smw._kernel.flight import Flights
from smw._kernel.process import ForkLock
from smw._kernel.signals import CacheUncached
from smw.cache.engine import Place
from smw.cache.identity import identity_of
from smw.cache.keys import UnkeyableError, encode
from smw.cache.stats import CacheInfo, Stats
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from smw._kernel.call import Mode, Target
    from smw._kernel.chain import Proceed
    from smw.cache.engine import Engine, Look
    from smw.cache.forms import Finding, Policy
    from smw.cache.memory import Entry, Table
    from smw.cache.names import Names
    from smw.cache.options import Options
    from smw.cache.remote import Sight

__all__ = ["CachedFunction"]

_log = logging.getLogger("smw.cache")
_MEMBERS_FROM = 64
_REMEDIES = {
    "method-without-identity": "give the class a __cache_key__(self) method or pass key= to share its results",
    "function-without-identity": "define it at module level, or pass key= with all that tells it from others",
    "unstorable-result": "results of this type stay in memory; annotate the return type or return plain values",
    "instance-without-weakref": "add __weakref__ to the class's __slots__ or pass key=",
}
_REMEDY = "pass key= or give the type a __cache_key__(self) method"


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
        self.policy = policy
        self.stats = Stats()
        self._engine = engine
        self._names = names
        self._now = engine.host.clock.now
        self._flights = Flights()
        self._table: Table = {}
        self._texts: Table = {}
        self._members: dict[int, tuple[weakref.ref[Any], dict[Any, Entry]]] = {}
        self._said: set[str] = set()
        self._looking: set[Hashable] = set()
        self._sights: dict[Hashable, Sight] = {}
        self._landed = 0
        self._gear_key = target.gear_key if options.key is None and policy.in_memory else None
        parameters = target.signature.parameters.values() if target.signature else ()
        # Who passes key= says what tells results apart, for whatever function computes them.
        identity = identity_of(target) if options.key is None else b""
        self._is_told_apart = identity is not None
        shape = tuple((p.name, int(p.kind)) for p in parameters)
        self._prefix = encode(target.name, options.version, shape) + (identity or b"")
        self._adopting = ForkLock()
        fixed = None if any(tag.fields for tag in options.tags) else [names.tag(tag.text) for tag in options.tags]
        self._fixed_tags = None if fixed is None else (names.everything, *fixed)

    def bound(self) -> Bound | None:
        """Return what the chain runs; None where nothing is ever kept."""
        if self.policy.ttl_s <= 0 or not (self.policy.in_memory or self.policy.names):
            return None
        gear = Gear(self._table.get, self._now, self.stats) if self._gear_key is not None else None
        return Bound(self.around, gear)

    async def around(self, call: Call, proceed: Proceed) -> Any:
        """Answer from the levels, or call the function and keep its result."""
        try:
            quick = UNKEYED if self._gear_key is None else self._gear_key(*call.args, **call.kwargs)
            place = self.place(call, quick)
        except UnkeyableError as error:
            self._uncached(error.reason, error.what if error.reason in self._said else _blamed(call, error))
            return await proceed()
        except TypeError:
            return await proceed()  # arguments that do not fit: Python's own complaint is the best one
        entry = self._engine.fresh(place)
        if entry is not None:
            self.stats.hits += 1
            return entry.copy()
        flight = place.home is self._table, place.key, self._engine.fence.stamp(place.scopes)
        look, landed = None, self._landed
        if self._is_shared(place) and (flight in self._sights or flight not in self._looking):
            look = await self._look(flight, place, call.mode)
            if look.found is not None:
                self._count(look.found)
                return look.found.take()[1]
        boarded = self._boarding(flight, look)
        load = partial(self._obtain, boarded, call, place, proceed, look=look, landed=landed)
        finding: Finding = await self._flights.fly(boarded, load, call.mode)
        self._count(finding)
        taken, value = finding.take()
        return value if taken else await proceed()

    def _is_shared(self, place: Place) -> bool:
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
        engine, policy = self._engine, self.policy
        if landed != self._landed:
            look = None  # a load has ended since, perhaps of this very key
        if look is None and self._is_shared(place) and engine.fresh(place) is None:
            look = await engine.look(place, policy, call.mode)
        if look is not None:
            self._sights[flight] = look.sight
        try:
            finding = await engine.obtain(place, policy, proceed, call.mode, look=look)
        finally:
            self._sights.pop(flight, None)
        self._landed += 1
        if finding.refused is not None:
            self._uncached(*finding.refused)
        if place.scopes is place.tags:  # it has no key that could be dropped: it belongs to an instance
            self._adopt(call, place)
        return finding

    def place(self, call: Call, quick: object = UNKEYED) -> Place:
        """Return where the result of a call belongs.

        Args:
            call: The call.
            quick: Its key in the compiled entry, if it has one.

        Raises:
            UnkeyableError: It has no key.
        """
        arguments = call.arguments
        tags = self._fixed_tags
        if tags is None:
            names, render = self._names, [tag.render(arguments) for tag in self.options.tags]
            tags = (names.everything, *map(names.tag, render))
        if self.options.key is not None:
            return self._named(self._texts, self._own_key(call), tags)
        instance = next(iter(arguments.values()), None) if self.target.is_method else None
        if instance is None or hasattr(type(instance), "__cache_key__"):
            encoded = encode(*arguments.values())
            home = self._table if quick is not UNKEYED and instance is None else self._texts
            return self._named(home, encoded, tags, quick)
        return self._of_instance(instance, arguments, tags, quick)

    def _named(self, home: Table, encoded: bytes, tags: tuple[str, ...], quick: object = UNKEYED) -> Place:
        text = self._names.key(self._prefix + encoded)
        key = quick if home is self._table else text
        if self._is_told_apart:
            return Place(home, key, text, tags, (text, *tags))
        if self.policy.names:
            self._warn("function-without-identity", self.target.qualname)
        return Place(home, key, None, tags, (text, *tags))

    def _of_instance(self, instance: Any, arguments: dict[str, object], tags: tuple[str, ...], quick: object) -> Place:
        """Keep results of an instance without an identity of its own in memory, and no longer than it lives."""
        if type(instance).__weakrefoffset__ == 0:
            raise UnkeyableError("instance-without-weakref", type(instance).__name__)
        if self.policy.names:
            self._warn("method-without-identity", type(instance).__name__)
        if quick is not UNKEYED:
            return Place(self._table, quick, None, tags, tags)
        rest = encode(*list(arguments.values())[1:])
        return Place(self._texts, (id(instance), self._names.key(self._prefix + rest)), None, tags, tags)

    def _own_key(self, call: Call) -> bytes:
        assert self.options.key is not None  # noqa: S101 - for the type checker
        try:
            return encode(self.options.key(*call.args, **call.kwargs))
        except UnkeyableError:
            raise
        except Exception as error:
            raise UnkeyableError("failing-key", type(error).__name__) from error

    def _adopt(self, call: Call, place: Place) -> None:
        """Let an entry in memory die with the instance that it belongs to."""
        entry = place.home.get(place.key)
        if entry is None:
            return
        instance = next(iter(call.arguments.values()))
        with self._adopting:
            held = self._members.get(id(instance))
            if held is None:
                ref = weakref.ref(instance, partial(self._orphaned, id(instance)))
                held = self._members[id(instance)] = ref, {}
            members = held[1]
            members[place.key] = entry
            if len(members) % _MEMBERS_FROM == 0:
                for key in [key for key, member in members.items() if not member.alive]:
                    del members[key]

    def _orphaned(self, identity: int, _ref: object) -> None:
        with self._adopting:  # re-entrant: the collector may call this from within
            held = self._members.pop(identity, None)
        if held is not None:
            for entry in held[1].values():
                self._engine.memory.abandon(entry)

    def _count(self, finding: Finding) -> None:
        if finding.level == "l1":
            self.stats.hits += 1
            return
        others = self.stats.others
        if self.policy.in_memory:
            others["l1", "miss"] += 1
        for name in finding.missed:
            others[name, "miss"] += 1
        if finding.level:
            others[finding.level, "hit"] += 1

    def _uncached(self, reason: str, what: str) -> None:
        self.stats.others["none", "uncached"] += 1
        self._engine.host.bus.send(CacheUncached(self.target.name, reason))
        self._warn(reason, what)

    def _warn(self, reason: str, what: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            remedy = _REMEDIES.get(reason, _REMEDY)
            _log.warning("%s is not cached as asked: %s (%s); %s", self.target.name, reason, what, remedy)

    def key_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the full key of a call.

        Raises:
            ConfigError: It has none.
        """
        call = Call(self.target, args, kwargs)
        try:
            place = self.place(call)
        except UnkeyableError as error:
            what = f"this call of {self.target.name} has no key: {error.reason} ({_blamed(call, error)})"
            raise ConfigError("SMW-C113", what, fix=_REMEDIES.get(error.reason, _REMEDY)) from None
        if place.scopes is place.tags:
            what = f"{self.target.name} is a method whose class says nothing of identity"
            raise ConfigError("SMW-C113", what, fix=_REMEDIES["method-without-identity"])
        return place.scopes[0]

    def info(self) -> CacheInfo:
        """Return what it is set to and has done."""
        others = self.stats.others.copy()
        levels = (("l1",) if self.policy.in_memory else ()) + self.policy.names
        return CacheInfo(
            fn=self.target.name,
            ttl_s=self.policy.ttl_s,
            levels=levels,
            hits={level: others[level, "hit"] + (self.stats.hits if level == "l1" else 0) for level in levels},
            misses={level: others[level, "miss"] for level in levels},
            uncached=others["none", "uncached"],
            entries=len(self._table) + len(self._texts),
        )


def _blamed(call: Call, error: UnkeyableError) -> str:
    """Return which argument has no key, and its type."""
    for name, value in call.arguments.items():
        try:
            encode(value)
        except UnkeyableError as found:
            if found.args == error.args:
                return f"{name}: {error.what}"
    return error.what
