"""The cache of a runtime, or one on its own: builds its levels from settings and hands out functions and regions."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from smw._kernel.host import Host
from smw._kernel.process import after_fork
from smw._kernel.told import plainly
from smw.cache.coherence.alone import warn_if_alone
from smw.cache.coherence.bookmark import Token, reading, token_of
from smw.cache.coherence.commit import EVERYWHERE, Commits
from smw.cache.coherence.dropping import checked_texts, drop, drop_soon, warn_of_fields
from smw.cache.coherence.fence import Fence
from smw.cache.coherence.listener import Listener, listener_of
from smw.cache.decorators import Decorators
from smw.cache.functions.function import CachedFunction
from smw.cache.functions.registry import Functions, known_as
from smw.cache.levels.engine import Engine
from smw.cache.levels.level import run_blocking
from smw.cache.levels.memory import ENTRY_BYTES, Memory
from smw.cache.levels.wiring import envelope_of, names_of, names_within, remote_of
from smw.cache.loading.fleet import fleet_of
from smw.cache.loading.refresh import XFETCH
from smw.cache.region import Region
from smw.cache.sight.spread import watch_facts
from smw.cache.sight.standing import standing_of
from smw.cache.sight.stats import function_facts, memory_facts, server_facts
from smw.cache.sight.tools import Tools
from smw.cache.strategies.behind import WriteBehind
from smw.cache.strategies.writing import WRITERS, known_writers
from smw.cache.values.codec import Codec
from smw.cache.values.forms import Policy
from smw.cache.values.tampering import Tampering
from smw.cache.values.typed import Classes, classes_of
from smw.cache.warming.warmth import Warmth
from smw.settings import CacheSettings, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from smw._kernel.call import Target
    from smw._kernel.facts import Fact
    from smw._kernel.standing import Standing
    from smw.cache.functions.advice import Cached
    from smw.cache.functions.readers import Scopes
    from smw.cache.options import Options
    from smw.cache.strategies.outbox import Noted

F = TypeVar("F", bound="Callable[..., Any]")

__all__ = ["Cache"]

_log = logging.getLogger("smw.cache")
_JITTER = 0.1
_OFF = "the cache is switched off (cache setting 'enabled', CACHE_ENABLED): every cached function is called"


def _weakly(method: Callable[[], Iterable[Any]]) -> Callable[[], Iterable[Any]]:
    """Return `method` without its object: functions lead to the host, and must not keep what was never closed."""
    reference = weakref.WeakMethod(method)

    def ask() -> Iterable[Any]:
        living = reference()
        return () if living is None else living()

    return ask


class Cache(Decorators, Tools):
    """Memory, Redis and memcached as one cache.

    Its `cached`, `invalidate` and `writes` are those of `smw.cache`, for this cache.

    Opens no connection until the first call that needs one, or `aprepare`.

    Args:
        settings: Settings, as a model or a mapping.
        host: Clock, randomness, bus and facts of the runtime; its own when used alone.
        options: Single settings; they win over `settings`.

    Raises:
        ConfigError: A setting is wrong, or encryption is asked for in production without a key.
        MissingExtra: The client of a configured server is not installed.
    """

    def __init__(
        self,
        settings: CacheSettings | Mapping[str, Any] | None = None,
        *,
        host: Host | None = None,
        **options: Any,
    ) -> None:
        self.settings = build(CacheSettings, settings, options)
        self.host = host or Host()
        self._lock = threading.RLock()
        self._functions = Functions()
        self._regions: dict[str, Region] = {}
        self._warned = False
        self._listener: Listener | None = None
        self._behind: WriteBehind | None = None
        self._names = names_of(self.settings, self.host)
        self._is_off = not self.settings.enabled
        memory = Memory(0 if self._is_off else self.settings.l1_size, self.settings.l1_bytes)
        fence = Fence(self.host.clock)
        self._envelope = envelope = envelope_of(self.settings, self.host)
        remote = remote_of(self.settings, self.host, fence=fence, envelope=envelope, everything=self._names.everything)
        remote.on_unreadable = Tampering(self.host)
        if self._is_off:
            _log.warning(_OFF)
        self._in_memory = memory.most_entries > 0
        self._levels = () if self._is_off else tuple(tier.name for tier in remote.tiers)
        self._engine = Engine(
            self.host,
            memory=memory,
            remote=remote,
            fence=fence,
            budget_s=self.settings.budget_ms / 1000,
            trust_s=self.settings.l1_trust_ms / 1000,
            l1_ttl_s=self.settings.l1_ttl or float("inf"),
            jitter=self._jitter(),
        )
        self.commits = Commits(EVERYWHERE)
        after_fork(self._forked)
        self._listener = listener_of(self._engine, self._names.everything, trust_s=self.settings.l1_trust_ms / 1000)
        self._engine.fleet = fleet_of(self._engine, self._listener)
        self._warmth = Warmth(self, self.settings, self.prefix)
        # Whoever watches the facts reads them at once.
        self._forget_facts = self.host.facts.add(_weakly(self._facts))
        self._forget_standing = self.host.standings.add(_weakly(self._standing))

    def _forked(self) -> None:
        self._lock = threading.RLock()

    def _jitter(self) -> float:
        given, usual = self.settings.jitter, 0.0 if self.host.profile == "testing" else _JITTER
        return usual if given is None else given

    def _ahead(self, told: Options, target: Target) -> float | None:
        """Return when results are loaded anew; ADR 8 tells why by default not those of every function."""
        if told.refresh_ahead is not None:
            return told.refresh_ahead or None
        only_values = told.key is None and not target.is_method
        return XFETCH if only_values and self.host.profile != "testing" else None

    def _facts(self) -> Iterator[Fact]:
        for name, stats in self._functions.counts():
            yield from function_facts(name, stats)
        yield from memory_facts(self._engine.memory)
        yield from server_facts(self._engine.remote.servers, self._engine.remote.corrupt)
        if self._listener is not None:
            yield from self._listener.facts()
        if self._engine.fleet is not None:
            yield from self._engine.fleet.facts()
        if self._behind is not None:
            yield from self._behind.facts()
        yield from self._warmth.facts()
        yield from watch_facts(self._engine.watch, self._engine.remote.servers)

    def _standing(self) -> Iterator[Standing]:
        return standing_of(self._engine, in_memory=self._in_memory)

    def _owner(self) -> Cache:
        return self

    def on_commit(self, register: Callable[[Callable[[], None]], object]) -> Callable[[], None]:
        """Have ``when="commit"`` wait for transactions that `register` knows, as `smw.cache.on_commit` does.

        Only decorators of this cache ask it.
        """
        return self.commits.add(register)

    @property
    def behind(self) -> WriteBehind:
        """What is acknowledged and not written yet, for the decorators."""
        with self._lock:
            if self._behind is None:
                settings, folder = self.settings, self.settings.state_dir
                self._behind = WriteBehind(
                    self._engine,
                    self._envelope,
                    folder=None if folder is None else folder / self._names.everything.split(":")[1],
                    drain_s=settings.drain_s,
                    allow_pickle=settings.allow_pickle,
                    writers=WRITERS,
                    names=known_writers,
                    is_off=self._is_off,
                )
                self._engine.behind = self._behind
            return self._behind

    def function(self, target: Target, advice: Cached) -> CachedFunction:
        """Return the function that `advice` decorates as this cache knows it."""
        known = known_as(target, advice)
        with self._lock:
            function = known.get(self)
            if function is not None:
                return function
            told = advice.options
            names = tuple(level for level in told.levels if level in self._levels)
            classes = classes_of(target.fn) if names or told.copy == "decode" else Classes()
            codec = Codec(classes, allow_pickle=self.settings.allow_pickle, as_json=told.codec == "json")
            in_memory = "l1" in told.levels and self._in_memory
            l1_ttl_s = told.l1_ttl_s or float("inf")
            ttl_s, stale_s, ahead = told.longest_s, told.stale_s, self._ahead(told, target)
            policy = Policy(ttl_s, told.copy, in_memory, names, codec, l1_ttl_s=l1_ttl_s, stale_s=stale_s, ahead=ahead)
            is_of_fleet = told.flight == "fleet" and "l2" in names
            most_bytes = self._engine.memory.largest - ENTRY_BYTES if self.settings.l1_bytes else float("inf")
            gathered = told.many is not None
            policy = policy._replace(is_of_fleet=is_of_fleet, is_gathered=gathered, most_bytes=most_bytes)
            policy = policy._replace(is_off=self._is_off)
            own = names_within(self._names, self.settings, self.host, target.name)
            function = CachedFunction(target, told, policy, self._engine, own)
            known[self] = function
            self._functions.add(function)
            self._warmth.admit(function)
            if self.settings.state_dir is not None:
                self.behind.begin()  # other processes may have written what this one is going to read
            return function

    def region(self, name: str) -> Region:
        """Return the region of that name: values under keys of the caller's choice, over the same levels."""
        with self._lock:
            region = self._regions.get(name)
            if region is None:
                levels, in_memory = self._levels, self._in_memory
                region = Region(name, self._engine, self._names, levels=levels, in_memory=in_memory)
                self._regions[name] = region
            return region

    @property
    def engine(self) -> Engine:
        """The levels, for the decorators."""
        return self._engine

    def tag_names(self, tags: Sequence[str]) -> list[str]:
        """Return how the counters of `tags` are called."""
        return [self._names.tag(tag) for tag in tags]

    async def drop_scopes(self, scopes: Scopes, mode: Any) -> None:
        """Drop `scopes` in the caller's mode."""
        await drop(self._engine, scopes, mode)

    async def noted(self, scopes: Scopes, mode: Any) -> Noted | None:
        """Return a drop that waits for a commit and survives this process, where there is a `state_dir` for it."""
        return None if self.settings.state_dir is None else await self.behind.outbox.note(scopes, mode)

    def drop_soon(self, scopes: Scopes) -> None:
        """Drop `scopes` here at once; servers are told in the background."""
        drop_soon(self._engine, scopes)

    async def drop_everything(self, mode: Any) -> None:
        """Drop all that this cache's namespace holds, regions included, in the caller's mode."""
        warn_if_alone(self._engine)
        await self._engine.drop([self._names.everything], (), mode)

    @plainly("drop()", 'cache.drop(tags=["user:7"])')
    async def drop(self, *, tags: Sequence[str] | None = None, keys: Sequence[str] | None = None) -> Token:
        """Drop everything under `tags`, and the results under `keys` (see `smw.cache.key_for`).

        Tags are taken as they are: fields in braces are those of `cached` and `invalidate`. Empty lists drop nothing.

        When it returns, this process hands out nothing older; a server that did not answer is told later.

        Returns:
            What readers elsewhere are given to `reading_after`, so that they see nothing older either.

        Raises:
            ConfigError: Neither is given, a tag is no text, or a key is none.
        """
        return await self._drop(tags, keys, "async")

    @plainly("drop_sync()", 'cache.drop_sync(tags=["user:7"])')
    def drop_sync(self, *, tags: Sequence[str] | None = None, keys: Sequence[str] | None = None) -> Token:
        """Drop as `drop` does, from blocking code."""
        return run_blocking(self._drop(tags, keys, "sync"))  # type: ignore[no-any-return]

    async def _drop(self, tags: Sequence[str] | None, keys: Sequence[str] | None, mode: Any) -> Token:
        texts, given = checked_texts(tags, keys)
        self._warned = self._warned or warn_of_fields(texts)
        checked = [self._names.checked(key) for key in given]
        named = [self._names.tag(tag) for tag in texts]
        warn_if_alone(self._engine)
        await self._engine.drop(named, checked, mode)
        return await token_of(self._engine, (*named, *checked), mode)

    def reading_after(self, token: str | None) -> AbstractContextManager[None]:
        """Have what is read in the block be no older than a drop; as `smw.cache.reading_after`."""
        return reading(self._engine, token)

    def backends(self) -> Mapping[str, bool]:
        """Return server → whether it answers, as far as the last calls have shown."""
        return {level.store.name: not level.breaker.is_open for level in self._engine.remote.servers}

    def _end(self) -> None:
        self._forget_facts()
        self._forget_standing()
        if self._listener is not None:
            self._listener.close()

    def close(self) -> None:
        """Write what waits, pay what servers are owed if they answer, and close all connections; idempotent."""
        if self._behind is not None:
            self._behind.close()
        for function in self._functions.living():
            function.close()
        self._warmth.close()
        self._end()
        for level in self._engine.remote.servers:
            level.close()

    async def aclose(self) -> None:
        """Close as `close` does, waiting for the connections of the running event loop; idempotent."""
        if self._behind is not None:
            await self._behind.aclose()
        for function in self._functions.living():
            await function.aclose()
        await self._warmth.aclose()
        self._end()
        for level in self._engine.remote.servers:
            await level.aclose()
