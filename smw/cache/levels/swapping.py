"""Has the server that keeps the counters replace a value in one instant, and slower ones take it; decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smw.cache.naming.names import fence_of
from smw.cache.ports import Found, Replacer, Versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.call import Mode
    from smw._kernel.clock import Clock
    from smw._kernel.guard import Budget
    from smw.cache.coherence.debt import Owed
    from smw.cache.levels.level import Level
    from smw.cache.levels.remote import Remote, Sight
    from smw.cache.values.envelope import Letter

__all__ = ["can_swap", "insist", "swap"]


def can_swap(remote: Remote, key: str, names: Sequence[str]) -> bool:
    """Tell whether the level that keeps the counters also keeps the value of `key`, and can replace it."""
    return remote.tiers[0].name in names and isinstance(remote.tiers[0].of(key).store, Replacer)


async def swap(
    remote: Remote,
    sight: Sight,
    letter: Letter,
    key: str,
    tags: Sequence[str],
    *,
    names: Sequence[str],
    owed: Sequence[tuple[Level, Owed]],
    clock: Clock,
    budget: Budget,
    mode: Mode,
) -> bool:
    """Drop what is owed, and in the same instant store `letter` if nothing has changed since `sight`.

    Args:
        remote: The levels behind memory, of which `can_swap` has been told.
        sight: What they showed before the source was written.
        letter: What to store, with the counters that `sight` has.
        key: Full key.
        tags: Its tags, as names of counters.
        names: Levels that may hold it.
        owed: What `Remote.owe` has returned for the key.
        clock: Where time comes from.
        budget: What may be spent.
        mode: The caller's mode.

    Returns:
        False where something has changed, or the server did not answer, so that nothing must be kept here either.
        `sight` has what the counters show by then.
    """
    authority, number = remote.tiers[0].of(key), None
    time = remote.time_of(key)
    ttl_s, asked = letter.usable_s(time.now()), clock.now()
    made = remote.made(key, letter)
    found = Found(None, (letter.fence, *letter.generations))
    more: dict[str, Any] = {"counters": (fence_of(key), *tags), "found": found}
    life_s, blob = min(ttl_s, remote.caps_s.get(authority.name, ttl_s)), remote.envelope.close(letter, key.encode())
    replace = getattr(authority.store, "replace")  # noqa: B009 - what `can_swap` has found
    try:
        number = await authority.ask(replace, key, blob, life_s, budget=budget, mode=mode, **more)
    finally:
        for level, what in owed:
            if level is authority and number is not None:
                level.receipts.note(what, (abs(number),), until=made if number > 0 else None)
                level.debt.settle(what)
            elif level is authority:
                level.wake()
    sight.versions, sight.asked = Versions(abs(number), letter.generations) if number else None, asked
    await remote.drop([(level, what) for level, what in owed if level is not authority], budget=budget, mode=mode)
    if number is None or number <= 0:
        return False
    letter = letter._replace(fence=number)
    for tier in remote.tiers[1:]:
        level = tier.of(key)
        if tier.name in names and not level.debt.covers((key,)):
            life_s = min(ttl_s, remote.caps_s.get(level.name, ttl_s))
            await _store(level, key, remote.envelope.close(letter, key.encode()), life_s, budget=budget, mode=mode)
    return True


async def insist(
    remote: Remote, sight: Sight, letter: Letter, key: str, tags: Sequence[str], *, budget: Budget, mode: Mode
) -> None:
    """Store what `swap` has not, under what it has made of the counters, unless they change once more.

    Of all who insist at once the last one succeeds: each has changed the key's counter before, to a number of its own.
    """
    authority, versions = remote.tiers[0].of(key), sight.versions
    if versions is None or versions.fence is None:
        return
    letter = letter._replace(fence=versions.fence)
    ttl_s, blob = letter.usable_s(remote.time_of(key).now()), remote.envelope.close(letter, key.encode())
    more: dict[str, Any] = {
        "counters": (fence_of(key), *tags),
        "found": Found(None, (letter.fence, *letter.generations)),
    }
    life_s = min(ttl_s, remote.caps_s.get(authority.name, ttl_s))
    await authority.ask(authority.store.write, key, blob, life_s, budget=budget, mode=mode, **more)


async def _store(level: Level, key: str, blob: bytes, life_s: float, *, budget: Budget, mode: Mode) -> None:
    """Store a value where its old one has just been dropped."""
    found = await level.ask(level.store.read, key, (), budget=budget, mode=mode)
    if found is not None:
        more: dict[str, Any] = {"counters": (), "found": found}
        await level.ask(level.store.write, key, blob, life_s, budget=budget, mode=mode, **more)
