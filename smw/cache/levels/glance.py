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
    from smw.cache.ports import Found
    from smw.cache.values.envelope import Letter
    from smw.cache.values.forms import Policy

__all__ = ["Glimpse", "glance"]

_EARLY_MS = EARLY_S * 1000


class Glimpse(NamedTuple):
    """A value that the first server has, for one caller.

    Attributes:
        level: Where it was found.
        value: The value.
        versions: What stood when it was found.
        asked: When that was asked.
    """

    level: str
    value: Any
    versions: Versions
    asked: float


_glimpse, _versions = Glimpse._make, Versions._make  # half the price of calling the classes


async def glance(engine: Engine, place: Place, policy: Policy, mode: Mode) -> tuple[Glimpse | None, Ahead | None]:
    """Return a value that the first server has, to be handed to one caller, where no other level has a say in it.

    It needs nothing of what a look keeps account of: other levels, what memory has, what a value was made from.

    Args:
        engine: The levels, a server among them.
        place: Where the value belongs; servers know it.
        policy: How it is kept.
        mode: The caller's mode.

    Returns:
        The value, or None and what a look has to be told of the answer; None as well where nobody was asked.
    """
    remote, text, scopes = engine.remote, place.text or "", place.scopes
    level = remote.tiers[0].of(text)
    if place.key in place.home or level.name not in policy.names or remote.owes(scopes, text):
        return None, None
    epoch, budget, asked = engine.fence.epoch, engine.budget(), engine.host.clock.now()
    engine.backplane.want(asked)
    counters = (place.fence or fence_of(text), *place.tags)
    found: Found | None = await level.ask(level.store.read, text, counters, budget=budget, mode=mode)
    is_dated = not level.time.is_due(asked)
    if found is None or found.blob is None or not is_dated or place.key in place.home or level.debt.covers(scopes):
        return None, Ahead(found, asked, epoch, budget)
    letter = remote.opened(level.name, text, found.blob)
    versions, left_s = _versions((found.counters[0], found.counters[1:])), 1.0
    if letter is not None and not _is_sound(letter, level, versions):
        letter, left_s = remote.weighed(text, letter, versions, scopes, is_fenced=level.store.is_atomic)
    if letter is None or left_s <= 0 or letter.depends:
        return None, Ahead(found, asked, epoch, budget, judged=(letter, left_s))
    try:
        value = policy.codec.unpack(letter.encoding, letter.payload)
    except CorruptError:
        return None, Ahead(found, asked, epoch, budget, judged=(letter, left_s))
    engine.watch.ages.add(level.name, max(0.0, level.time.at - letter.created_ms / 1000))
    if policy.in_memory:
        sight = Sight(asked)
        sight.letter, sight.level, sight.versions = letter, level.name, versions
        engine.remember(place, policy, value, sight, epoch=epoch)
    return _glimpse((level.name, value, versions, asked)), None


def _is_sound(letter: Letter, level: Level, now: Versions) -> bool:
    """Tell of nearly every value that nothing speaks against it; what is not told of is to be weighed."""
    if letter.generations != now.generations or (letter.fence != now.fence and not level.store.is_atomic):
        return False
    time, age_ms = level.time, level.time.at * 1000 - letter.created_ms
    is_alive = -_EARLY_MS <= age_ms < letter.ttl_ms and (time.is_known or not letter.stale_ms)
    return is_alive and not level.receipts
