"""What people and tools ask of a cache besides results: what it holds under a key, and why; forgetting all of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from smw._kernel.raising import StoppedError
from smw.cache.coherence.alone import warn_if_alone
from smw.cache.levels.engine import Place
from smw.cache.levels.level import run_blocking
from smw.cache.naming.key import Key
from smw.cache.naming.names import checked
from smw.cache.sight.story import story_of
from smw.cache.values.codec import Codec, CorruptError

if TYPE_CHECKING:
    from smw._kernel.call import Mode
    from smw.cache.levels.engine import Engine
    from smw.cache.levels.level import Level
    from smw.cache.naming.names import Names
    from smw.cache.sight.story import Story
    from smw.cache.strategies.behind import WriteBehind
    from smw.cache.warming.warmth import Warmth
    from smw.cache.warming.warmup import FleetWarmed
    from smw.settings import CacheSettings

__all__ = ["Tools"]


class Tools:
    """The part of `Cache` that looks and clears.

    Attributes:
        settings: The cache's.
    """

    settings: CacheSettings
    _engine: Engine
    _names: Names
    _warmth: Warmth

    if TYPE_CHECKING:

        @property
        def behind(self) -> WriteBehind:
            """What is acknowledged and not written yet."""
            ...

    @property
    def prefix(self) -> str:
        """What the keys of its namespace begin with."""
        return self._names.everything.removesuffix("t:*")

    async def peek(self, key: str, default: Any = None) -> Any:
        """Return the value under a key if a level could answer with it now, else `default`.

        No function is called, nothing is counted as hit or miss, and no level is filled.

        Args:
            key: What `smw.cache.key_for` has returned.
            default: What to return where there is none.

        Raises:
            ConfigError: It is no key.
            Exception: One that is kept in the place of a result (`cache_exceptions`).
        """
        return await self._peek(key, default, "async")

    def peek_sync(self, key: str, default: Any = None) -> Any:
        """Return what `peek` does, from blocking code."""
        try:
            return run_blocking(self._peek(key, default, "sync"))
        except StoppedError as stopped:
            raise stopped.stop from None

    async def why(self, key: str) -> Story:
        """Tell what each level holds under a key, and which would answer now and why; read it by ``print``.

        Args:
            key: What `smw.cache.key_for` has returned; of its text alone neither function nor tags are known.

        Raises:
            ConfigError: It is no key.
        """
        return await story_of(self._key(key), self._engine, "async", names=self._names)

    def why_sync(self, key: str) -> Story:
        """Tell what `why` does, from blocking code."""
        story = story_of(self._key(key), self._engine, "sync", names=self._names)
        return run_blocking(story)  # type: ignore[no-any-return]

    async def warm_fleet(self) -> FleetWarmed:
        """Fill memory from L2 with what the fleet asks for most, as a process does that starts with `warm="fleet"`.

        It is bounded by `warm_keys`, half of `l1_bytes`, and `warm_timeout_s`; it never fails, and calls no function.
        """
        return await self._warmth.warm("async", once=False)

    def warm_fleet_sync(self) -> FleetWarmed:
        """Fill memory as `warm_fleet` does, from blocking code."""
        return run_blocking(self._warmth.warm("sync", once=False))  # type: ignore[no-any-return]

    async def aprepare(self) -> None:
        """Have ready what the first call would wait for: connections, and each function that is to start warm.

        With `state_dir` the writes that processes of that folder have left are taken over from now on.
        """
        self._take_up()
        await self._knock()
        await self._warmth.warm("async", once=True)

    def prepare(self) -> None:
        """Have ready what `aprepare` does, from blocking code, where each thread connects with its first call."""
        self._take_up()
        run_blocking(self._warmth.warm("sync", once=True))

    async def _knock(self) -> None:
        """Ask each server something, so that it is connected to, or known to be down, before the first call.

        Where it tells the time it is asked that too. Never fails.
        """
        engine, name = self._engine, self._names.everything
        levels = [level for tier in engine.remote.tiers for level in tier.servers] if self.settings.enabled else []
        if levels:
            engine.backplane.want(engine.host.clock.now())

        async def ask(level: Level) -> None:
            found = await level.ask(level.store.read, name, (name,), budget=engine.budget(), mode="async")
            if found is not None:
                await level.know_time(engine.host.clock.now(), budget=engine.budget(), mode="async")

        await asyncio.gather(*map(ask, levels))

    def _take_up(self) -> None:
        if self.settings.state_dir is not None:
            self.behind.begin()

    async def clear(self) -> None:
        """Drop all that this cache's namespace holds, for every process; as `drop`, so one counter is raised."""
        await self._clear("async")

    def clear_sync(self) -> None:
        """Clear as `clear` does, from blocking code."""
        run_blocking(self._clear("sync"))

    async def _clear(self, mode: Mode) -> None:
        warn_if_alone(self._engine)
        await self._engine.drop([self._names.everything], (), mode)

    def _key(self, key: str) -> Key:
        checked(key, self.prefix, what="this is no full key")
        if isinstance(key, Key):
            return key
        held = self._engine.memory.held(key)  # what memory has knows its tags' counters
        return Key.of(key, held[0].tags if held else (self._names.everything,))

    async def _peek(self, given: str, default: Any, mode: Mode) -> Any:
        key, engine = self._key(given), self._engine
        if not self.settings.enabled:
            return default
        entry = next(iter(engine.memory.held(key)), None)
        home, within = ({}, key) if entry is None else (entry.home, entry.key)
        place = Place(home, within, str(key), key.tags, key.scopes)
        fresh = engine.fresh(place)
        if fresh is not None:
            return fresh.copy()
        names = key.names if key.names is not None else tuple(tier.name for tier in engine.remote.tiers)
        sight = await engine.remote.look(str(key), key.tags, names, budget=engine.budget(), mode=mode)
        await engine.verify(place, sight, budget=engine.budget(), mode=mode)
        confirmed = engine.confirmed(place, sight)
        if confirmed is not None:
            return confirmed.take()[1]
        if sight.letter is None:
            return default
        codec = key.codec or Codec(allow_pickle=self.settings.allow_pickle)
        try:
            return codec.unpack(sight.letter.encoding, sight.letter.payload)
        except CorruptError:
            return default
