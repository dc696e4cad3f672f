"""Finds in the first server what nearly all looks find, at half their price; the rest is left to a look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw.cache.coherence.depending import Origin
from smw.cache.levels.remote import Ahead, Sight
from smw.cache.naming.names import fence_of
from smw.cache.ports import Versions
from smw.cache.values.codec import CorruptError
from smw.cache.values.forms import Finding

if TYPE_CHECKING:
    from smw._kernel.call import Mode
    from smw.cache.levels.engine import Engine, Place
    from smw.cache.values.forms import Policy

__all__ = ["glance"]


async def glance(engine: Engine, place: Place, policy: Policy, mode: Mode) -> tuple[Finding | None, Ahead | None]:
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
    found = await level.ask(level.store.read, text, (fence_of(text), *place.tags), budget=budget, mode=mode)
    is_dated = not level.time.is_due(asked)
    if found is None or found.blob is None or not is_dated or place.key in place.home or level.debt.covers(scopes):
        return None, Ahead(found, asked, epoch, budget)
    versions = Versions(found.counters[0], found.counters[1:])
    judged = remote.judged(level.name, text, found.blob, versions, scopes, is_fenced=level.store.is_atomic)
    letter, left_s = judged
    if letter is None or left_s <= 0 or letter.depends:
        return None, Ahead(found, asked, epoch, budget, judged=judged)
    try:
        value = policy.codec.unpack(letter.encoding, letter.payload)
    except CorruptError:
        return None, Ahead(found, asked, epoch, budget, judged=judged)
    engine.watch.ages.add(level.name, max(0.0, level.time.at - letter.created_ms / 1000))
    if policy.in_memory:
        sight = Sight(asked)
        sight.letter, sight.level, sight.versions = letter, level.name, versions
        engine.remember(place, policy, value, sight, epoch=epoch)
    return Finding(level.name, copy=None, first=(value,), origin=Origin(place, versions, asked)), None
