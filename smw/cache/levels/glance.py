"""Finds in the first server what nearly all looks find, at half their price; the rest is left to a look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from smw.cache.levels.remote import EARLY_S, Ahead, Sight
from smw.cache.naming.names import fence_of
from smw.cache.ports import Versions
from smw.cache.values.codec import CorruptError

if TYPE_CHECKING:
    from smw._kernel.call import Mode
    from smw.cache.levels.engine import Engine, Place
    from smw.cache.levels.level import Level
    from smw.cache.ports import Counters, Found
    from smw.cache.values.envelope import Letter
    from smw.cache.values.forms import Policy

__all__ = ["Glimpse", "glance"]

_EARLY_MS = EARLY_S * 1000


class Glimpse(NamedTuple):
    """A value that the first server has, for one caller.

    Attributes:
        level: Where it was found.
        value: The value.
        counters: What stood when it was found: that of its key, then those of its tags.
        asked: When that was asked.
    """

    level: str
    value: Any
    counters: Counters
    asked: float


_glimpse = Glimpse._make  # half the price of calling the class


async def glance(engine: Engine, place: Place, policy: Policy, mode: Mode) -> Glimpse | Ahead | None:
    """Return a value that the first server has, to be handed to one caller, where no other level has a say in it.

    It needs nothing of what a look keeps account of: other levels, what memory has, what a value was made from.

    Args:
        engine: The levels, a server among them.
        place: Where the value belongs; servers know it.
        policy: How it is kept.
        mode: The caller's mode.

    Returns:
        The value, or what a look has to be told of the answer; None where nobody was asked.
    """
    remote, text, scopes = engine.remote, place.text or "", place.scopes
    level = remote.tiers[0].of(text)
    if place.key in place.home or level.name not in policy.names or remote.owes(scopes, text):
        return None
    epoch, budget, asked = engine.fence.epoch, engine.budget(), engine.host.clock.now()
    engine.backplane.want(asked)
    names = (place.fence or fence_of(text), *place.tags)
    found: Found | None = await level.ask(level.store.read, text, names, budget=budget, mode=mode)
    is_dated = not level.time.is_due(asked)
    if found is None or found.blob is None or not is_dated or place.key in place.home or level.debt.covers(scopes):
        return Ahead(found, asked, epoch, budget)
    counters, left_s = found.counters, 1.0
    letter = remote.opened(level.name, text, found.blob)
    if letter is not None and not _is_sound(letter, level, counters):
        versions = Versions(counters[0], counters[1:])
        letter, left_s = remote.weighed(text, letter, versions, scopes, is_fenced=level.store.is_atomic)
    if letter is None or left_s <= 0 or letter.depends:
        return Ahead(found, asked, epoch, budget, judged=(letter, left_s))
    try:
        value = policy.codec.unpack(letter.encoding, letter.payload)
    except CorruptError:
        return Ahead(found, asked, epoch, budget, judged=(letter, left_s))
    engine.watch.ages.add(level.name, max(0.0, level.time.at - letter.created_ms / 1000))
    if policy.in_memory:
        sight = Sight(asked)
        sight.letter, sight.level, sight.versions = letter, level.name, Versions(counters[0], counters[1:])
        engine.remember(place, policy, value, sight, epoch=epoch)
    return _glimpse((level.name, value, counters, asked))


def _is_sound(letter: Letter, level: Level, counters: Counters) -> bool:
    """Tell of nearly every value that nothing speaks against it; what is not told of is to be weighed."""
    if letter.generations != counters[1:] or (letter.fence != counters[0] and not level.store.is_atomic):
        return False
    time = level.time
    is_alive = -_EARLY_MS <= time.at * 1000 - letter.created_ms < letter.ttl_ms
    return is_alive and (time.is_known or not letter.stale_ms) and not level.receipts
