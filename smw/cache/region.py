"""Named values over the same levels, for callers that do their own loading; knows no function."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from smw.cache.coherence.alone import warn_if_alone
from smw.cache.coherence.dropping import checked_texts
from smw.cache.levels.engine import Place
from smw.cache.levels.level import run_blocking
from smw.cache.naming.arguments import UnkeyableError, encode
from smw.cache.options import life_of
from smw.cache.strategies.replacing import look_blind, put
from smw.cache.values.codec import Codec, CorruptError
from smw.cache.values.forms import Policy
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from smw._kernel.call import Mode
    from smw._kernel.guard import Budget
    from smw.cache.levels.engine import Engine
    from smw.cache.levels.memory import Table
    from smw.cache.levels.remote import Sight
    from smw.cache.naming.names import Names

__all__ = ["Mark", "Region"]

_log = logging.getLogger("smw.cache")
_PUT = 'region.put(key, value, ttl=60, tags=["user:7"], since=mark)'
_DROP = 'region.drop(keys=["ada"]), or region.drop(tags=["user:7"])'


class Mark(NamedTuple):
    """A moment before a value was made.

    Attributes:
        epoch: What had been invalidated by then.
        at: When it was, on the monotonic clock.
    """

    epoch: int
    at: float


def _check_mark(since: object) -> None:
    if since is not None and not isinstance(since, Mark):
        raise ConfigError("SMW-C110", "since= takes what mark() has returned", seen=type(since).__name__, fix=_PUT)


class Region:
    """Values of plain types under keys of the caller's choice, apart from those of every other region.

    Made by `Cache.region`.

    Args:
        name: Keeps its keys apart.
        engine: The levels.
        names: How keys and tags are called.
        levels: Levels behind memory.
        in_memory: Whether memory keeps values.

    Raises:
        ConfigError: It has no name.
    """

    def __init__(self, name: str, engine: Engine, names: Names, *, levels: tuple[str, ...], in_memory: bool) -> None:
        given: Any = name
        if not isinstance(given, str) or not given:
            what = "a region is named by a text that is not empty"
            raise ConfigError("SMW-C113", what, seen=repr(name), fix='cache.region("codes")')
        self._name = name
        self._engine = engine
        self._names = names
        self._table: Table = {}
        self._said: set[str] = set()
        self._policy = Policy(0.0, "auto", in_memory, levels, Codec())

    @property
    def keeps_any(self) -> bool:
        """Whether any level keeps values: not where the cache is switched off."""
        return self._policy.in_memory or bool(self._policy.names)

    def _text(self, key: object) -> str:
        try:
            return self._names.key(encode("region", self._name, key))
        except UnkeyableError as error:
            what = f"a value of the region {self._name!r} has no key: {error.reason} ({error.what})"
            raise ConfigError("SMW-C113", what, fix="name it by a text, a number, or a tuple of them") from None

    def _place(self, key: object, tags: Sequence[str]) -> Place:
        text = self._text(key)
        return Place(self._table, text, text, (self._names.everything,), (text, self._names.everything, *tags))

    def mark(self) -> Mark:
        """Return the present moment for `put(since=)`: what is dropped after it will not be stored.

        That goes for drops of other processes too, while those are heard (see `Backplane`).
        """
        engine, now = self._engine, self._engine.host.clock.now()
        engine.backplane.want(now)
        return Mark(engine.fence.epoch, now)

    async def get(self, key: object, default: Any = None) -> Any:
        """Return a copy of the value under a key, or `default` where no level has a valid one.

        Args:
            key: The caller's key: a text, or whatever an argument of a cached function may be.
            default: What to return where there is none; an object of the caller's own tells that from a stored None.

        Raises:
            ConfigError: `key` cannot be one.
        """
        return await self.get_in("async", key, default)

    def get_sync(self, key: object, default: Any = None) -> Any:
        """Return what `get` does, from blocking code."""
        return run_blocking(self.get_in("sync", key, default))

    async def put(
        self, key: object, value: Any, ttl: float | timedelta, *, tags: Sequence[str] = (), since: Mark | None = None
    ) -> None:
        """Store a value under a key; a server that fails does not fail the call.

        What was there before is gone for every process, also where the new value is not stored.

        Args:
            key: The caller's key.
            value: What travels to servers without a return annotation; another stays in memory, with one warning.
            ttl: Seconds or a timedelta, ten years at most; 0 and less store nothing.
            tags: Names under which it can be dropped.
            since: What `mark` returned before the value was made.

        Raises:
            ConfigError: `key`, `ttl`, `tags` or `since` cannot be one.
        """
        await self.put_in("async", key, value, ttl, tags=tags, since=since)

    def put_sync(
        self, key: object, value: Any, ttl: float | timedelta, *, tags: Sequence[str] = (), since: Mark | None = None
    ) -> None:
        """Store a value as `put` does, from blocking code."""
        run_blocking(self.put_in("sync", key, value, ttl, tags=tags, since=since))

    async def drop(self, *, keys: Sequence[object] | None = None, tags: Sequence[str] | None = None) -> None:
        """Drop values by key, and everything under tags, as `Cache.drop` does.

        Raises:
            ConfigError: Neither is given, a tag is no text, or a key cannot be one.
        """
        await self.drop_in("async", keys=keys, tags=tags)

    def drop_sync(self, *, keys: Sequence[object] | None = None, tags: Sequence[str] | None = None) -> None:
        """Drop values as `drop` does, from blocking code."""
        run_blocking(self.drop_in("sync", keys=keys, tags=tags))

    async def get_in(self, mode: Mode, key: object, default: Any = None) -> Any:
        """Return what `get` does, for code that serves both modes.

        Args:
            mode: ``sync`` blocks, ``async`` suspends.
            key: As for `get`.
            default: As for `get`.
        """
        engine, place = self._engine, self._place(key, ())
        entry = engine.fresh(place)
        if entry is not None:
            return entry.copy()["value"]
        if not self._policy.names or place.text is None:
            return default
        budget, epoch = engine.budget(), engine.fence.epoch
        engine.backplane.want(engine.host.clock.now())
        sight = await engine.remote.look(place.text, place.tags, self._policy.names, budget=budget, mode=mode)
        if sight.versions is None:  # nobody to ask: what memory has stands until its time ends
            kept = engine.confirmed(place, sight)
            if kept is not None:
                return kept.take()[1]["value"]
        stored = await self._valid(sight, place.text, budget, mode)
        if stored is None:
            return default
        await engine.remote.fill_up(sight, place.text, place.tags, budget=budget, mode=mode)
        tagged = place._replace(scopes=(*place.scopes, *stored["tags"]))
        engine.remember(tagged, self._policy, stored, sight, epoch=epoch)
        return stored["value"]

    async def _valid(self, sight: Sight, text: str, budget: Budget, mode: Mode) -> dict[str, Any] | None:
        """Return what a server has unless one of its tags was dropped since."""
        if sight.letter is None:
            return None
        try:
            stored = self._policy.codec.unpack(sight.letter.encoding, sight.letter.payload)
            tags, generations = stored["tags"], stored["generations"]
        except (CorruptError, KeyError, TypeError):
            return None
        remote = self._engine.remote
        now = await remote.generations(text, tags, budget=budget, mode=mode)
        gone = remote.suspects(tags) if now is None else remote.owes(tags) or list(now) != generations
        return None if gone else stored

    async def put_in(
        self,
        mode: Mode,
        key: object,
        value: Any,
        ttl: float | timedelta,
        *,
        tags: Sequence[str] = (),
        since: Mark | None = None,
    ) -> None:
        """Store a value as `put` does, for code that serves both modes.

        Args:
            mode: ``sync`` blocks, ``async`` suspends.
            key: As for `put`.
            value: As for `put`.
            ttl: As for `put`; what has ended already is not stored.
            tags: As for `put`.
            since: As for `put`.
        """
        ttl_s = life_of(ttl)
        if ttl_s is None or math.isnan(ttl_s):
            what = f"ttl= of the region {self._name!r} takes seconds or a timedelta"
            raise ConfigError("SMW-C102", what, seen=repr(ttl), fix="region.put(key, value, ttl=60)")
        _check_mark(since)
        names = [self._names.tag(tag) for tag in checked_texts(tags, (), form=_PUT)[0]]
        place, policy = self._place(key, names), self._policy._replace(ttl_s=ttl_s)
        if ttl_s <= 0 or not self.keeps_any or not await self._put(place, policy, value, since, mode):
            await self._engine.drop((), place.scopes[:1], mode)  # what was there is no longer what the caller wants

    async def _put(self, place: Place, policy: Policy, value: Any, since: Mark | None, mode: Mode) -> bool:
        """Put a value in the place of what is there; returns False where it is not to be kept, and nothing was done."""
        engine, (text, _, *names) = self._engine, place.scopes
        epoch, budget = engine.fence.epoch if since is None else since.epoch, engine.budget()
        if not engine.fence.stands(place.scopes, epoch):
            return False
        sight = await look_blind(engine, place, policy, budget, mode)
        opened = await engine.remote.open(text, names, policy.ttl_s, budget=budget, mode=mode) if names else ()
        heard = engine.backplane.of(text)
        if since is not None and not await heard.has_heard_all(since.at, budget=budget, mode=mode):
            return False
        if opened is None:
            sight.missed = []  # its tags cannot be judged later: keep it here alone
        stored = {"value": value, "tags": names, "generations": list(opened or ())}
        how: Any = {"epoch": epoch, "insists": since is None, "budget": budget, "mode": mode}
        refused = await put(engine, place, policy, stored, sight, **how)
        if refused is not None:
            self._warn(*refused)
        return True

    def _warn(self, reason: str, what: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            _log.warning("a value of the region %r is not kept as asked: %s (%s)", self._name, reason, what)

    async def drop_in(
        self, mode: Mode, *, keys: Sequence[object] | None = None, tags: Sequence[str] | None = None
    ) -> None:
        """Drop values as `drop` does, for code that serves both modes."""
        texts, given = checked_texts(tags, keys, form=_DROP)
        warn_if_alone(self._engine)
        await self._engine.drop([self._names.tag(tag) for tag in texts], list(map(self._text, given)), mode)
