"""Named values over the same levels, for callers that do their own loading; knows no function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from smw.cache.codec import Codec, CorruptError
from smw.cache.engine import Place
from smw.cache.forms import Policy
from smw.cache.keys import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.call import Mode
    from smw._kernel.guard import Budget
    from smw.cache.engine import Engine
    from smw.cache.memory import Table
    from smw.cache.names import Names
    from smw.cache.remote import Sight

__all__ = ["Mark", "Region"]


class Mark(NamedTuple):
    """A moment before a value was made.

    Attributes:
        epoch: What had been invalidated by then.
        at: When it was, on the monotonic clock.
    """

    epoch: int
    at: float


class Region:
    """Values of plain types under keys of the caller's choice, apart from those of every other region.

    Made by `Cache.region`.

    Args:
        name: Keeps its keys apart.
        engine: The levels.
        names: How keys and tags are called.
        levels: Levels behind memory.
        in_memory: Whether memory keeps values.
    """

    def __init__(self, name: str, engine: Engine, names: Names, *, levels: tuple[str, ...], in_memory: bool) -> None:
        self._name = name
        self._engine = engine
        self._names = names
        self._table: Table = {}
        self._policy = Policy(0.0, "auto", in_memory, levels, Codec())

    def _place(self, key: str, tags: Sequence[str]) -> Place:
        text = self._names.key(encode("region", self._name, key))
        return Place(self._table, text, text, (self._names.everything,), (text, self._names.everything, *tags))

    def mark(self) -> Mark:
        """Return the present moment for `put`: what is dropped after it will not be stored.

        That goes for drops of other processes too, while those are heard (see `Backplane`).
        """
        engine, now = self._engine, self._engine.host.clock.now()
        engine.backplane.want(now)
        return Mark(engine.fence.epoch, now)

    async def get(self, key: str, mode: Mode) -> Any:
        """Return a copy of the value, or None when no level has a valid one.

        Args:
            key: The caller's key.
            mode: ``sync`` blocks, ``async`` suspends.
        """
        engine, place = self._engine, self._place(key, ())
        entry = engine.fresh(place)
        if entry is not None:
            return entry.copy()["value"]
        if not self._policy.names or place.text is None:
            return None
        budget, epoch = engine.budget(), engine.fence.epoch
        engine.backplane.want(engine.host.clock.now())
        sight = await engine.remote.look(place.text, place.tags, self._policy.names, budget=budget, mode=mode)
        if sight.versions is None:  # nobody to ask: what memory has stands until its time ends
            kept = engine.confirmed(place, sight)
            if kept is not None:
                return kept.take()[1]["value"]
        stored = await self._valid(sight, place.text, budget, mode)
        if stored is None:
            return None
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

    async def put(
        self,
        key: str,
        value: Any,
        ttl_s: float,
        tags: Sequence[str] = (),
        mode: Mode = "async",
        *,
        since: Mark | None = None,
    ) -> None:
        """Store a value; never fails.

        Args:
            key: The caller's key.
            value: Made of None, bool, numbers, text, bytes, lists and dictionaries.
            ttl_s: Time to live, seconds.
            tags: Under which it can be dropped.
            mode: ``sync`` blocks, ``async`` suspends.
            since: What `mark` returned before the value was made.
        """
        engine, names = self._engine, [self._names.tag(tag) for tag in tags]
        place = self._place(key, names)
        epoch, budget = engine.fence.epoch if since is None else since.epoch, engine.budget()
        policy = self._policy._replace(ttl_s=ttl_s)
        if ttl_s <= 0 or not engine.fence.stands(place.scopes, epoch):
            return
        text = place.text or ""
        sight = await engine.remote.look(text, place.tags, policy.names, budget=budget, mode=mode, blind=True)
        await engine.remote.prepare(sight, text, place.tags, ttl_s, budget=budget, mode=mode)
        opened = await engine.remote.open(text, names, ttl_s, budget=budget, mode=mode) if names else ()
        heard = engine.backplane.of(text)
        if since is not None and not await heard.has_heard_all(since.at, budget=budget, mode=mode):
            return
        if opened is None:
            sight.missed = []  # its tags cannot be judged later: keep it here alone
        stored = {"value": value, "tags": names, "generations": list(opened or ())}
        await engine.keep(place, policy, stored, sight, epoch=epoch, budget=budget, mode=mode)

    async def drop(self, keys: Sequence[str] = (), tags: Sequence[str] = (), mode: Mode = "async") -> None:
        """Drop values by key and by tag, as `Cache.drop` does."""
        texts = [self._names.key(encode("region", self._name, key)) for key in keys]
        await self._engine.drop([self._names.tag(tag) for tag in tags], texts, mode)
