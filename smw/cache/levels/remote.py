"""Asks the tiers behind memory in order, judges what they hold, and fills them; knows no function."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from smw.cache.coherence.servertime import ServerTime
from smw.cache.levels.sight import Ahead, Sight, Tier
from smw.cache.naming.names import fence_of
from smw.cache.ports import Versions
from smw.cache.values.codec import CorruptError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.clock import Clock
    from smw._kernel.guard import Budget
    from smw.cache.coherence.debt import Owed
    from smw.cache.coherence.fence import Fence
    from smw.cache.levels.level import Level
    from smw.cache.ports import Counters
    from smw.cache.values.envelope import Dependency, Envelope, Letter

__all__ = ["Ahead", "Remote", "Sight", "Tier"]

NEVER = float("-inf")
ORPHAN_S = 30.0
"""How old a value of L3 may be while L2, which knows what was invalidated, does not answer."""
EARLY_S = 5.0
"""What seems to have been stored later than in so many seconds from now was stamped by another clock than ours."""


def _is_certain(letter: Letter) -> bool:
    """Tell whether a value that some server still has must be alive: it ends what carries no generations so soon."""
    return not letter.generations and letter.ttl_ms >= ORPHAN_S * 1000


class Remote:
    """The tiers behind memory.

    The first one keeps the counters (the authority); it alone judges what the others hold.

    Args:
        tiers: In the order in which they are asked.
        envelope: Opens and closes stored bytes.
        fence: What this process invalidated.
        clock: Where time comes from.
        caps_s: Tier → the longest that it keeps anything.

    Attributes:
        on_unreadable: Called with level and reason when an entry did not open.
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        *,
        envelope: Envelope,
        fence: Fence,
        clock: Clock,
        caps_s: dict[str, float],
    ) -> None:
        self.tiers = tuple(tiers)
        self.servers = tuple(level for tier in tiers for level in tier.servers)
        self._books = tuple(book for level in self.servers for book in level.debt.books)
        self.envelope = self._envelope = envelope
        self._fence = fence
        self._clock = clock
        self.caps_s = self._caps_s = caps_s
        self.corrupt: Counter[str] = Counter()
        self.on_unreadable: Callable[[str, str], object] = lambda _level, _reason: None

    async def look(
        self,
        key: str,
        tags: Sequence[str],
        names: Sequence[str],
        *,
        budget: Budget,
        mode: Mode,
        blind: bool = False,
        ahead: Ahead | None = None,
    ) -> Sight:
        """Look for `key`, faster levels first.

        Args:
            key: Full key.
            tags: Its tags, as names of counters, the tag of everything included.
            names: Levels that may hold it.
            budget: What may be spent.
            mode: The caller's mode.
            blind: Take no value, only note what it takes to replace it.
            ahead: What the first server was just asked of it together with others; None asks.
        """
        sight = Sight(self._clock.now() if ahead is None else ahead.asked)
        scopes = (key, *tags)
        if self.owes(scopes, key):
            return sight  # some server may still hold what was invalidated here
        for tier in self.tiers:
            is_authority = tier is self.tiers[0]
            if not is_authority and tier.name not in names:
                continue
            level = tier.of(key)
            counters = (fence_of(key), *tags) if is_authority else ()
            if is_authority and ahead is not None:
                found = ahead.found
            else:
                found = await level.ask(level.store.read, key, counters, budget=budget, mode=mode)
            if found is None or level.debt.covers(scopes):  # it may have come from another server than before
                continue
            if is_authority:
                sight.versions = Versions(found.counters[0], found.counters[1:])
                await level.know_time(sight.asked, budget=budget, mode=mode)
            if level.name in names:
                sight.seen[level.name] = found
                blob = None if blind else found.blob
                is_sent = ahead is not None and ahead.is_sent
                is_fenced = is_authority and level.store.is_atomic and not is_sent  # what was dropped there is gone
                judged = ahead.judged if is_authority and ahead is not None else None
                if judged is None:
                    judged = self.judged(level.name, key, blob, sight.versions, scopes, is_fenced=is_fenced)
                letter, left_s = judged
                if letter is not None and letter.depends:
                    made, is_orphan = self.made(key, letter), sight.versions is None
                    stand = await self.stand(letter.depends, made, is_orphan=is_orphan, budget=budget, mode=mode)
                    letter = letter if stand else None
                if letter is not None and left_s > 0:
                    sight.letter, sight.level = letter, level.name
                    return sight
                if letter is not None:
                    sight.stale = sight.stale or (level.name, letter)
                sight.missed.append(level.name)
        return sight

    def judged(
        self,
        level: str,
        key: str,
        blob: bytes | None,
        now: Versions | None,
        scopes: Sequence[str],
        *,
        is_fenced: bool,
    ) -> tuple[Letter | None, float]:
        """Return a stored value, unless something speaks against it, and the seconds that it still has to live.

        Without the server's time one that may stand in for an error counts as expired: servers keep it beyond its life.

        Args:
            level: Where it is stored.
            key: Its full key.
            blob: Its bytes; None where there are none.
            now: What the counters show; None where the server that keeps them did not answer.
            scopes: All under which it can be dropped.
            is_fenced: Dropping the key removes it there, so that its own counter need not be compared.
        """
        letter = None if blob is None else self.opened(level, key, blob)
        return (None, 0.0) if letter is None else self.weighed(key, letter, now, scopes, is_fenced=is_fenced)

    def opened(self, level: str, key: str, blob: bytes) -> Letter | None:
        """Return what `level` has stored under a key; None, which is counted, where it does not open."""
        try:
            return self._envelope.open(blob, key.encode())
        except (CorruptError, TypeError) as error:
            self.corrupt[level] += 1
            self.on_unreadable(level, str(error))
            return None

    def weighed(
        self, key: str, letter: Letter, now: Versions | None, scopes: Sequence[str], *, is_fenced: bool
    ) -> tuple[Letter | None, float]:
        """Return what `judged` does of a value that has opened."""
        authority = self.tiers[0].of(key)
        at, receipts = authority.time.now(), authority.receipts
        left_s = letter.remaining_s(at)
        if letter.stale_ms and not authority.time.is_known and not _is_certain(letter):
            left_s = min(left_s, 0.0)
        if left_s + letter.stale_ms / 1000 <= 0:
            return None, left_s
        is_early = letter.created_ms / 1000 - at > EARLY_S and self.is_early(key, letter)
        carried = letter.fence, *letter.generations
        if is_early or (receipts and receipts.outdates(scopes, carried, self.made(key, letter))):
            if is_early:
                authority.errors["early"] += 1
            return None, left_s
        if now is not None:
            stands = letter.generations == now.generations and (is_fenced or letter.fence == now.fence)
            return letter if stands else None, left_s
        return letter if self.is_young(key, letter) and not self.suspects(scopes, key) else None, left_s

    @property
    def time(self) -> ServerTime:
        """The time of the first server; this process's where there is none."""
        return self.servers[0].time if self.servers else ServerTime(self._clock, is_told=False)

    def time_of(self, key: str) -> ServerTime:
        """Return the time by which values of `key` are stamped."""
        return self.tiers[0].of(key).time

    def is_early(self, key: str, letter: Letter) -> bool:
        """Tell whether a value was stamped by another clock than the server's: it is from the future."""
        time = self.time_of(key)
        return letter.created_ms / 1000 - time.now() > EARLY_S and time.is_told and time.is_known

    def is_young(self, key: str, letter: Letter) -> bool:
        """Tell whether a value may be taken at its word while nobody knows what was dropped of it.

        What carries no generations was stored for so short a time, and the server that has it ends it.
        """
        time = self.time_of(key)
        age_s = time.now() - letter.created_ms / 1000
        return age_s < ORPHAN_S if time.is_known else not letter.generations

    def made(self, key: str, letter: Letter) -> float:
        """Return when a value of `key` was stored, on the monotonic clock; long ago where nobody knows."""
        time = self.time_of(key)
        at = time.now()
        return self._clock.now() + letter.created_ms / 1000 - at if time.is_known else NEVER

    async def stand(
        self,
        depends: Sequence[Dependency],
        made: float | None,
        *,
        is_orphan: bool = False,
        budget: Budget,
        mode: Mode,
    ) -> bool:
        """Tell whether nothing that a value was made from was dropped since.

        Args:
            depends: What it was made from.
            made: When a server got it, on the monotonic clock; None for one of memory, which needs no answer.
            is_orphan: The server that knows what was dropped did not answer for the value itself.
            budget: What may be spent.
            mode: The caller's mode.
        """
        scopes = {each.key: (each.key, *[tag for tag, _ in each.tags]) for each in depends}
        if any(self.owes(some, key) for key, some in scopes.items()):
            return False
        if made is not None and any(self._outdated(each, made) for each in depends):
            return False
        by_server: dict[Level, dict[str, int]] = {}
        for each in depends:
            counters = by_server.setdefault(self.tiers[0].of(each.key), {})
            counters.update({fence_of(each.key): each.fence, **dict(each.tags)})
        for level, counters in by_server.items():
            names = tuple(counters)
            nothing = f"{names[0]}~"  # no value is called so, and none is wanted
            found = await level.ask(level.store.read, nothing, names, budget=budget, mode=mode)
            if found is not None and found.counters != tuple(counters.values()):
                return False
            if found is None and made is not None:
                young = is_orphan and self._clock.now() - made < ORPHAN_S
                if not young or any(self.suspects(some, key) for key, some in scopes.items()):
                    return False
        return True

    def _outdated(self, each: Dependency, made: float) -> bool:
        receipts = self.tiers[0].of(each.key).receipts
        scopes, carried = (each.key, *[tag for tag, _ in each.tags]), (each.fence, *[number for _, number in each.tags])
        return bool(receipts) and receipts.outdates(scopes, carried, made)

    async def prepare(
        self, sight: Sight, key: str, tags: Sequence[str], ttl_s: float, *, budget: Budget, mode: Mode
    ) -> None:
        """Start counters that do not exist yet, so that a value loaded from now on can carry them."""
        now = sight.versions
        if now is None or now.is_whole:
            return
        asked = self._clock.now()
        opened = await self.open(key, (fence_of(key), *tags), ttl_s, budget=budget, mode=mode)
        sight.versions = None if opened is None else Versions(opened[0], opened[1:])
        sight.asked = asked

    async def generations(self, key: str, tags: Sequence[str], *, budget: Budget, mode: Mode) -> Counters | None:
        """Return the counters of `tags` where `key` is kept, or None when nobody answers."""
        if not tags:
            return ()
        authority = self.tiers[0].of(key)
        found = await authority.ask(authority.store.read, key, tags, budget=budget, mode=mode)
        return None if found is None else found.counters

    async def open(
        self, key: str, names: Sequence[str], ttl_s: float, *, budget: Budget, mode: Mode
    ) -> tuple[int, ...] | None:
        """Return the counters named `names` where `key` is kept, starting new ones, or None when nobody answers."""
        if not names or not self.tiers:
            return ()
        authority = self.tiers[0].of(key)
        opened: tuple[int, ...] | None
        opened = await authority.ask(authority.store.open, names, ttl_s, budget=budget, mode=mode)
        return opened

    def owes(self, scopes: Sequence[str], key: str | None = None) -> bool:
        """Tell whether a server has not acknowledged a drop of any of `scopes`; with a key, one that may hold it."""
        if not any(self._books):  # most of the time, and of many servers
            return False
        for level in self.servers:
            if level.debt:
                level.tend()
        levels = self.servers if key is None else [tier.of(key) for tier in self.tiers]
        return any(level.debt.covers(scopes) for level in levels)

    def suspects(self, scopes: Sequence[str], key: str | None = None) -> bool:
        """Tell whether a server may hold older values of `scopes` than this process knows to be dropped."""
        return self.owes(scopes, key) or self._fence.lifted_within(scopes, 2 * ORPHAN_S)

    async def write(
        self, sight: Sight, key: str, tags: Sequence[str], letter: Letter, *, budget: Budget, mode: Mode
    ) -> bool:
        """Store `letter` in every level that was seen without it.

        Returns:
            False when it was invalidated elsewhere while it was loaded, so that it must not be kept here either.
        """
        blob = self._envelope.close(letter, key.encode())
        return await self._fill(sight, sight.missed, key, tags, blob=blob, letter=letter, budget=budget, mode=mode)

    async def fill_up(self, sight: Sight, key: str, tags: Sequence[str], *, budget: Budget, mode: Mode) -> None:
        """Store what a slower level had in the faster ones, for the time that it still has."""
        letter, faster = sight.letter, [name for name in sight.missed if name in sight.seen]
        blob = sight.seen[sight.level].blob
        if letter is not None and blob is not None and faster and sight.versions is not None:
            await self._fill(sight, faster, key, tags, blob=blob, letter=letter, budget=budget, mode=mode)

    async def _fill(
        self,
        sight: Sight,
        names: Sequence[str],
        key: str,
        tags: Sequence[str],
        *,
        blob: bytes,
        letter: Letter,
        budget: Budget,
        mode: Mode,
    ) -> bool:
        time = self.time_of(key)
        usable_s = letter.usable_s(time.now())
        if sight.versions is None:
            usable_s = min(usable_s, ORPHAN_S)
        elif not time.is_known:
            return True  # nobody could tell later how old it is
        for tier in self.tiers:
            level, is_authority, asked = tier.of(key), tier is self.tiers[0], self._clock.now()
            if tier.name not in names or level.debt.covers((key, *tags)):
                continue
            if not level.store.is_atomic and asked - sight.began > ORPHAN_S:
                continue  # the tombstone of a drop in the meantime may be gone
            found = sight.seen[level.name]
            counters: tuple[str, ...] = ()
            if is_authority:
                if sight.versions is None:
                    continue
                found = found._replace(counters=(sight.versions.fence, *sight.versions.generations))
                counters = (fence_of(key), *tags)
            ttl_s = min(usable_s, self._caps_s.get(level.name, usable_s))
            more: dict[str, Any] = {"counters": counters, "found": found}
            stored = await level.ask(level.store.write, key, blob, ttl_s, budget=budget, mode=mode, **more)
            if is_authority and stored is False:
                return False
            if is_authority and stored and level.store.is_atomic:
                sight.asked = asked  # it has just confirmed that everything stands
        return True

    def owe(self, tags: Sequence[str], keys: Sequence[str]) -> list[tuple[Level, Owed]]:
        """Owe each server what it has to drop: `keys` everywhere, counters at the authority.

        From here on this process takes nothing of them from any server, until all have acknowledged.
        """
        owed = []
        for tier in self.tiers:
            for level in tier.servers:
                held = [key for key in keys if tier.of(key) is level]
                counters = [*tags, *dict.fromkeys(map(fence_of, held))] if tier is self.tiers[0] else []
                if counters or held:
                    owed.append((level, level.debt.add(counters, held)))
        return owed

    async def drop(self, owed: Sequence[tuple[Level, Owed]], *, budget: Budget, mode: Mode) -> None:
        """Drop what `owe` has returned; what is not acknowledged now is paid in the background."""
        try:
            for tier in self.tiers:
                told = [pair for pair in owed if pair[0].name == tier.name]
                if mode == "async" and len(told) > 1:  # one that hangs must not keep the others from hearing of it
                    await asyncio.gather(*[level.drop(what, budget=budget, mode=mode) for level, what in told])
                    continue
                for level, what in told:
                    await level.drop(what, budget=budget, mode=mode)
        except BaseException:
            for level, _ in owed:
                level.wake()
            raise
