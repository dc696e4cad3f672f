"""Tells of one key what each level holds, and which would answer and why; changes nothing and calls no function."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from smw.cache.naming.names import fence_of
from smw.cache.ports import Versions
from smw.cache.values.codec import CorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.guard import Budget
    from smw.cache.levels.engine import Engine
    from smw.cache.levels.level import Level
    from smw.cache.naming.key import Key
    from smw.cache.naming.names import Names
    from smw.cache.ports import Found
    from smw.cache.values.envelope import Dependency, Letter

__all__ = ["LevelStory", "Story", "story_of"]

_UNDONE = "was made from something that was dropped since"
_UNSURE = "was made from something that was dropped since, or may have been"
_UNKNOWN = "holds a value; whether its tags still stand is told of module:function alone, not of a bare key"
_UNTOLD = "holds a value; its tags are made from attributes of the object, which is not here to tell whether they stand"
_EXPIRED = "has expired"
_EXPIRED_BUT_KEPT = "has expired, and may stand in for a load that fails"


@dataclass(frozen=True, slots=True)
class LevelStory:
    """What one level holds under a key.

    Attributes:
        level: ``l1``, ``l2`` or ``l3``.
        server: Which server, or ``memory``.
        held: Whether it holds anything under the key, good or not.
        stands: Whether it could answer with it at this moment; None where its tags are not known here.
        says: Why, in a few words.
        age_s: Seconds since it was stored, where that is known.
        remaining_s: Seconds that it still has to live.
        size_bytes: What it takes there; in memory an estimate.
        load_s: Seconds that its function took, where that is known.
    """

    level: str
    server: str
    held: bool
    stands: bool | None
    says: str
    age_s: float | None = None
    remaining_s: float | None = None
    size_bytes: int | None = None
    load_s: float | None = None

    def __str__(self) -> str:
        """Render it in one line."""
        more = [
            "" if self.age_s is None else f"stored {self.age_s:.1f} s ago",
            "" if self.remaining_s is None else f"{self.remaining_s:.1f} s left",
            "" if self.size_bytes is None else f"{self.size_bytes} bytes",
            "" if self.load_s is None else f"loaded in {self.load_s:.3f} s",
        ]
        return "; ".join([self.says, *filter(None, more)])


@dataclass(frozen=True, slots=True)
class Story:
    """What the levels of a cache hold under one key, as one process sees it.

    Attributes:
        key: Full key.
        fn: ``module:qualname`` of the cached function, where it is known.
        tags: Its tags, where they are known.
        served_by: The level that would answer a call now; None where the function would be called, or where it
            cannot be told because the tags are not known.
        levels: Each level, in the order in which they are asked.
        dropped_s: Seconds since this process last dropped it, or heard that another one did; None if not of late.
        owed: Servers that have not acknowledged a drop of it; while there is one, no server is taken at its word.
    """

    key: str
    fn: str | None
    tags: tuple[str, ...] | None
    served_by: str | None
    levels: tuple[LevelStory, ...]
    dropped_s: float | None
    owed: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Render it for people."""
        about = [self.fn or "function not known here"]
        if self.tags is not None:
            about.append(f"tags {', '.join(self.tags)}" if self.tags else "no tags")
        elif self.fn is not None:
            about.append("tags not known here")
        rows = [f"  {row.level}  {row.server}: {row}" for row in self.levels]
        last = ["  the function would be called"]
        if self.served_by is not None:
            last = [f"  answered by {self.served_by}"]
        elif any(row.stands is None for row in self.levels):
            how = "by module:function and arguments" if self.fn is None else "in the application"
            last = [f"  answered if its tags still stand: ask {how}"]
        if self.dropped_s is not None:
            last.append(f"  dropped {self.dropped_s:.1f} s ago, as far as this process knows")
        if self.owed:
            last.append(f"  a drop of it is still owed to {', '.join(self.owed)}")
        return "\n".join([f"{self.key}  ({', '.join(about)})", *rows, *last])


async def story_of(key: Key, engine: Engine, mode: Mode, *, names: Names) -> Story:
    """Return the story of a key; each server is asked once, and about what a value was made from, within a budget."""
    now, scopes = engine.host.clock.now(), key.scopes
    dropped_at = engine.fence.lifted_at(scopes)
    seen = await _Looking(key, engine, names).levels(mode)
    return Story(
        key=str(key),
        fn=key.fn,
        tags=key.labels,
        served_by=next((row.level for row in seen if row.stands), None),
        levels=tuple(seen),
        dropped_s=None if dropped_at is None else max(0.0, now - dropped_at),
        owed=tuple(level.store.name for level in _holders(engine, key) if level.debt.covers(scopes)),
    )


def _holders(engine: Engine, key: Key) -> list[Level]:
    """Return the servers that may hold a key."""
    return [tier.of(key) for tier in engine.remote.tiers]


class _Looking:
    """One look at all levels, in order."""

    def __init__(self, key: Key, engine: Engine, names: Names) -> None:
        self._key = key
        self._engine = engine
        self._names = names
        self._now = engine.host.clock.now()
        self._versions: Versions | None = None
        self._answered = False
        self._undone: dict[str, str] = {}

    async def levels(self, mode: Mode) -> list[LevelStory]:
        """Return the story of each level."""
        rows, budget, remote = [], self._engine.budget(), self._engine.remote
        for tier in remote.tiers:
            level, is_authority = tier.of(self._key), tier is remote.tiers[0]
            counters = (fence_of(self._key), *self._key.tags) if is_authority else ()
            found = None
            if not level.breaker.is_open:
                found = await level.ask(level.store.read, str(self._key), counters, budget=budget, mode=mode)
            if is_authority and found is not None:
                self._versions = Versions(found.counters[0], found.counters[1:])
                await level.know_time(self._now, budget=budget, mode=mode)
            if found is not None:
                await self._judge(level.name, found, budget, mode)
            rows.append(self._server(level, found, is_fenced=is_authority and level.store.is_atomic))
        entry = next(iter(self._engine.memory.held(self._key)), None)
        basis = None if entry is None else entry.basis
        if basis and (basis.lacks or not await remote.stand(basis.depends, None, budget=budget, mode=mode)):
            self._undone["l1"] = await self._culprit(basis.depends, budget, mode)
        return [self._memory(), *rows]

    async def _judge(self, level: str, found: Found, budget: Budget, mode: Mode) -> None:
        """Note what was dropped that a stored value was made from."""
        remote = self._engine.remote
        try:
            letter = remote.envelope.open(found.blob or b"", self._key.encode())
        except (CorruptError, TypeError):
            return
        made, is_orphan = remote.made(self._key, letter), self._versions is None
        more: dict[str, Any] = {"is_orphan": is_orphan, "budget": budget, "mode": mode}
        if letter.depends and not await remote.stand(letter.depends, made, **more):
            self._undone[level] = await self._culprit(letter.depends, budget, mode)

    async def _culprit(self, depends: Sequence[Dependency], budget: Budget, mode: Mode) -> str:
        """Say which counter of a value's parts shows something else than it did before they were loaded."""
        for each in depends:
            names, numbers = zip((fence_of(each.key), each.fence), *each.tags, strict=True)
            now = await self._engine.remote.generations(each.key, names, budget=budget, mode=mode)
            for name, before, after in zip(names, numbers, now or (), strict=False):
                if before != after:
                    what = f"the key {each.key}" if name == names[0] else self._names.text_of(name)
                    return f"{_UNDONE}: {what}"
        return _UNSURE

    def _memory(self) -> LevelStory:
        entry = next(iter(self._engine.memory.held(self._key)), None)
        if entry is None:
            return LevelStory("l1", "memory", held=False, stands=False, says="holds nothing")
        left_s = entry.expires - self._now
        if left_s <= 0:
            stands, says = False, _EXPIRED_BUT_KEPT if entry.stale_until > self._now else _EXPIRED
        elif entry.deadline > self._now:
            stands, says = True, "answers"
        elif self._versions is None:
            stands, says = True, "answers, as no server says what others have dropped"
        elif "l1" in self._undone:
            stands, says = False, self._undone["l1"]
        elif self._versions == entry.ticket:
            stands, says = True, "answers once a server has confirmed it"
        else:
            stands, says = False, "was dropped elsewhere since it was stored"
        return LevelStory(
            "l1", "memory", held=True, stands=stands, says=says, remaining_s=left_s, size_bytes=entry.bytes
        )

    def _server(self, level: Level, found: Found | None, *, is_fenced: bool) -> LevelStory:
        def row(says: str, *, held: bool = False, stands: bool | None = False, **more: Any) -> LevelStory:
            return LevelStory(level.name, level.store.name, held=held, stands=stands, says=says, **more)

        if self._key.names is not None and level.name not in self._key.names:
            return row("is not used by this function")
        if found is None:
            return row("is down and not asked" if level.breaker.is_open else "did not answer")
        if found.blob is None:
            return row("holds nothing")
        size_bytes = len(found.blob)
        try:
            letter = self._engine.remote.envelope.open(found.blob, self._key.encode())
        except (CorruptError, TypeError) as error:
            return row(f"holds bytes that do not open ({error})", held=True, size_bytes=size_bytes)
        at = self._engine.remote.time_of(self._key).now()
        age_s, left_s = at - letter.created_ms / 1000, letter.remaining_s(at)
        against = next(self._objections(letter, at, is_fenced=is_fenced), None)
        against = against or self._undone.get(level.name)
        load_s = letter.load_ms / 1000 or None
        is_told = against is not None or self._key.labels is not None or self._has_tags_of(letter)
        says = against or ("answers" if is_told else _UNKNOWN if self._key.fn is None else _UNTOLD)
        more = {"age_s": max(0.0, age_s), "remaining_s": left_s, "size_bytes": size_bytes, "load_s": load_s}
        return row(says, held=True, stands=against is None if is_told else None, **more)

    def _has_tags_of(self, letter: Letter) -> bool:
        """Tell whether all counters that a value was stored with were asked for."""
        return len(letter.generations) == len(self._key.tags)

    def _objections(self, letter: Letter, at: float, *, is_fenced: bool) -> Iterator[str]:
        """Yield why a value is not handed out, if it is not."""
        remote, scopes, now = self._engine.remote, self._key.scopes, self._versions
        if letter.remaining_s(at) <= 0:
            yield _EXPIRED_BUT_KEPT if letter.usable_s(at) > 0 else _EXPIRED
        if remote.owes(scopes, self._key):
            yield "is not taken at its word while a drop is owed"
        if remote.is_early(self._key, letter):
            yield "was stored in the future, by the clock of the server that knows of drops"
        known = (letter.fence, *letter.generations)[: len(scopes)]
        if remote.tiers[0].of(self._key).receipts.outdates(scopes, known, remote.made(self._key, letter)):
            yield "holds what this process has dropped since"
        if now is None:
            if not remote.is_young(self._key, letter) or remote.suspects(scopes, self._key):
                yield "is not taken at its word while the server that knows of drops is away"
            return
        yield from self._changes(letter.generations, now.generations)
        if not is_fenced and letter.fence != now.fence:
            yield "holds what was dropped by its key since it was loaded"

    def _changes(self, then: Sequence[int], now: Sequence[int | None]) -> Iterator[str]:
        labels = self._key.labels
        for number, (before, after) in enumerate(zip(then, now, strict=False)):
            if before != after:
                tag = "everything" if number == 0 else f"tag {labels[number - 1]}" if labels else "a tag"
                how = "the server has forgotten the counter of" if after is None else "dropped since it was loaded:"
                yield f"holds an old value; {how} {tag}"
        if labels is not None and len(then) != len(now):
            yield "holds the value of other tags than the function's"
