"""Which functions of one cache tell the fleet what is hot and start warm, when they do, and what came of it."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from smw._kernel import current
from smw._kernel.facts import Fact
from smw._kernel.flight import Flights
from smw._kernel.process import after_fork
from smw._kernel.signals import CacheWarmed, CacheWarming
from smw.cache.functions.advice import DECORATED
from smw.cache.warming.heat import Heat
from smw.cache.warming.hot import Hearth
from smw.cache.warming.telling import Telling
from smw.cache.warming.warmup import FleetWarmed, WarmUp
from smw.errors import SmwError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from smw._kernel.call import Mode
    from smw.cache.functions.function import CachedFunction
    from smw.cache.options import Options
    from smw.cache.part import Cache
    from smw.settings import CacheSettings

__all__ = ["Warmth"]

T = TypeVar("T")

_log = logging.getLogger("smw.cache")


def _all(some: Iterable[T]) -> list[T]:
    """Return what a weak container holds, to which other threads may add meanwhile."""
    while True:
        with suppress(RuntimeError):
            return list(some)


class Warmth:
    """The warm-up from the fleet of one cache.

    Args:
        cache: The cache, with its levels.
        settings: Its settings.
        prefix: What the names of its namespace begin with.
    """

    def __init__(self, cache: Cache, settings: CacheSettings, prefix: str) -> None:
        self._cache = cache
        self._settings = settings
        self._prefix = prefix
        self._name = f"{prefix}hot"
        tiers = cache.engine.remote.tiers
        self._is_possible = bool(tiers) and tiers[0].name == "l2" and isinstance(tiers[0].servers[0].store, Hearth)
        self._functions: WeakValueDictionary[str, CachedFunction] = WeakValueDictionary()
        self._heat = Heat(settings.warm_keys)
        self._telling = Telling(cache.engine, self._heat, self._name, settings.warm_keys)
        self._flights = Flights()
        self._done: set[str] = set()
        self._took_s = 0.0
        if settings.warm == "fleet" and not self._is_possible:
            what = "cache setting 'warm' is fleet, and there is no Redis to fill memory from: every process starts cold"
            _log.warning("%s; set CACHE_L2_URL", what)
        after_fork(self._forked)

    def _forked(self) -> None:
        self._done = set()

    def _wants(self, told: Options) -> bool:
        return self._is_possible and (told.warm or self._settings.warm) == "fleet"

    def admit(self, function: CachedFunction) -> None:
        """Let a function take part if it is to and can: memory keeps its results, and L2 under keys that tell it."""
        policy = function.policy
        if self._wants(function.options) and policy.in_memory and "l2" in policy.names and function.keeps_any:
            if not function.is_told_apart:
                return
            self._functions[function.placing.mark] = function
            self._heat.watch(function.placing)
            function.begin = self._telling.start

    def _find(self) -> None:
        """Get to know the functions that were decorated and not called yet."""
        for advice in _all(DECORATED):
            if not self._wants(advice.options):
                continue
            is_mine = advice.owner is self._cache or (advice.owner is None and self._is_current())
            for target in list(advice.targets.values()) if is_mine else ():
                try:
                    self._cache.function(target, advice)
                except SmwError as error:  # its first call will say so
                    _log.debug("%s is not warmed up: %s", target.name, error)

    def _is_current(self) -> bool:
        runtime = current.get()
        return runtime is not None and runtime.part("cache") is self._cache

    async def warm(self, mode: Mode, *, once: bool) -> FleetWarmed:
        """Fill memory from L2 with what the fleet asks for most; whoever comes meanwhile waits for the same.

        Args:
            mode: The caller's mode.
            once: Leave out the functions for which this process has done so before.
        """
        if not self._is_possible:
            return FleetWarmed()
        warmed: FleetWarmed = await self._flights.fly(once, lambda: self._warm(mode, once=once), mode)
        return warmed

    async def _warm(self, mode: Mode, *, once: bool) -> FleetWarmed:
        self._find()
        functions = {mark: each for mark, each in _all(self._functions.items()) if not (once and mark in self._done)}
        if not functions:
            return FleetWarmed()
        bus, settings = self._cache.host.bus, self._settings
        bus.send(CacheWarming())
        done = FleetWarmed()
        try:
            done = await WarmUp(
                self._cache.engine,
                functions,
                prefix=self._prefix,
                name=self._name,
                most=settings.warm_keys,
                timeout_s=settings.warm_timeout_s,
            ).run(mode)
        finally:
            self._done.update(functions)
            self._took_s = done.took_s
            bus.send(CacheWarmed(done.kept, done.took_s, done.ended))
        self._say(done)
        return done

    def _say(self, done: FleetWarmed) -> None:
        reasons = {
            "deadline": f"; it ended at its deadline of {self._settings.warm_timeout_s:g} s (CACHE_WARM_TIMEOUT_S)",
            "away": "; it ended early, as the server did not answer",
        }
        level = logging.WARNING if done.ended else logging.INFO
        what = "memory holds %d results (%d bytes) that the fleet asks for most, after %.3f s%s"
        told = {"cache_level": "l1", "key": "", "ttl": None}
        _log.log(level, what, done.kept, done.bytes, done.took_s, reasons.get(done.ended, ""), extra=told)

    def facts(self) -> Iterator[Fact]:
        """Yield how long the last warm-up took."""
        if self._done:
            about = "Seconds that the last warm-up from the fleet took."
            yield Fact("smw_cache_warm_up_seconds", "gauge", about, (), self._took_s)

    def close(self) -> None:
        """Tell what this process has asked for most; idempotent."""
        self._telling.close()

    async def aclose(self) -> None:
        """Close as `close` does; idempotent."""
        await self._telling.aclose()
