"""Puts what was just written to the source in the place of what the levels hold, or drops it; knows no writer.

Whoever writes looks at the key's counter first. When the source has it, one script raises the counter, which dooms all
loads that began before, and stores the new value only if the counter still showed what was seen: then no other writer
has ended in between. Of writers that overlap the first to end stores its value and every later one drops it, for nobody
can tell in which order the source took them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from smw.cache.coherence.depending import lasting
from smw.cache.levels.swapping import can_swap, swap
from smw.cache.values.envelope import Letter
from smw.cache.values.forms import forms_of

if TYPE_CHECKING:
    from smw._kernel.call import Mode
    from smw.cache.levels.engine import Engine, Place
    from smw.cache.levels.remote import Sight
    from smw.cache.values.forms import Forms, Policy

__all__ = ["Before", "look_before", "replace"]


class Before(NamedTuple):
    """What stood before the source was written.

    Attributes:
        stamp: The newest epoch of what the value can be dropped by.
        sight: What the servers showed; None where none keep it.
        epoch: The fence's epoch.
    """

    stamp: int
    sight: Sight | None
    epoch: int


async def look_before(engine: Engine, place: Place, policy: Policy, mode: Mode) -> Before:
    """Note what stands; to be called before the source is written."""
    stamp, epoch = engine.fence.stamp(place.scopes), engine.fence.epoch
    if place.text is None or not engine.remote.tiers:
        return Before(stamp, None, epoch)
    budget = engine.budget()
    sight = await engine.remote.look(place.text, place.tags, policy.names, budget=budget, mode=mode, blind=True)
    await engine.remote.prepare(sight, place.text, place.tags, policy.ttl_s + policy.stale_s, budget=budget, mode=mode)
    return Before(stamp, sight, epoch)


async def replace(engine: Engine, place: Place, policy: Policy, value: Any, *, before: Before, mode: Mode) -> bool:
    """Put `value` in the place of what the levels hold; where anything is in doubt, drop that instead.

    Args:
        engine: The levels.
        place: Where the value belongs.
        policy: How it is kept.
        value: What the source has now.
        before: What `look_before` has returned.
        mode: The caller's mode.

    Returns:
        Whether it is kept.
    """
    own, basis = place.scopes[:1], place.basis
    owed = engine.remote.owe((), own) if before.sight is not None else []
    try:
        with engine.memory.lock:
            alone = engine.fence.stands(place.scopes, before.stamp)
            if basis is not None:
                alone = alone and basis.is_kept and engine.fence.stands(basis.scopes, before.epoch)
            engine.drop_here(own)
            epoch = engine.fence.epoch
        ttl_s = lasting(place, policy.lasts(place.key, value), engine.host.clock.now())
        forms = forms_of(value, policy, for_servers=before.sight is not None)
        if not alone or ttl_s <= 0:
            await engine.remote.drop(owed, budget=engine.budget(), mode=mode)
            return False
        sight = before.sight
        if sight is not None:
            letter = _letter(engine, own[0], policy, forms, sight, ttl_s=ttl_s)
            budget = engine.budget()
            if letter is not None and basis is not None:
                letter = None if basis.lacks else letter._replace(depends=basis.depends)
            if letter is None or not can_swap(engine.remote, own[0], policy.names):
                await engine.remote.drop(owed, budget=budget, mode=mode)
                return False
            told: Any = {"names": policy.names, "owed": owed, "clock": engine.host.clock, "budget": budget}
            if not await swap(engine.remote, sight, letter, own[0], place.tags, **told, mode=mode):
                return False
    except BaseException:
        for level, _ in owed:
            level.wake()
        raise
    if forms.held is not None and policy.in_memory:
        engine.put(place, policy, forms.held, ttl_s=ttl_s, epoch=epoch, sight=sight)
    return True


def _letter(engine: Engine, key: str, policy: Policy, forms: Forms, sight: Sight, *, ttl_s: float) -> Letter | None:
    """Return what servers are to store, or None where they cannot."""
    if forms.packed is None or sight.versions is None:
        return None
    fence, generations = sight.versions
    if fence is None or None in generations:
        return None
    time = engine.remote.time_of(key)
    created_ms, ttl_ms = int(time.now() * 1000), max(1, int(ttl_s * 1000))
    if not time.is_known:
        return None  # nobody could tell later how old it is
    seen = tuple([number for number in generations if number is not None])
    return Letter(*forms.packed, created_ms, ttl_ms, fence, seen, forms.shape, int(policy.stale_s * 1000))
