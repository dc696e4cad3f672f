"""Puts a value that its caller has made in the place of what the levels hold, or at least drops that; knows no name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smw.cache.levels.swapping import can_swap, swap
from smw.cache.values.envelope import Letter
from smw.cache.values.forms import forms_of

if TYPE_CHECKING:
    from smw._kernel.call import Mode
    from smw._kernel.guard import Budget
    from smw.cache.levels.engine import Engine, Place
    from smw.cache.levels.remote import Sight
    from smw.cache.values.forms import Forms, Policy

__all__ = ["put"]


async def put(
    engine: Engine, place: Place, policy: Policy, value: Any, sight: Sight, *, epoch: int, budget: Budget, mode: Mode
) -> tuple[str, str] | None:
    """Put `value` in the place of what is there; whatever becomes of it, nobody reads that any more.

    A server that does not answer owes a drop of the key: then the value is in this memory alone, until that is done.

    Args:
        engine: The levels.
        place: Where the value belongs.
        policy: How it is kept.
        value: The value.
        sight: What the servers showed of the key.
        epoch: The fence's epoch before it was made; what was dropped since is not kept.
        budget: What may be spent.
        mode: The caller's mode.

    Returns:
        (reason, type) where it is not kept as asked.
    """
    key, is_shared = place.scopes[:1], bool(engine.remote.tiers)
    owed = engine.remote.owe((), key)
    try:
        with engine.memory.lock:
            stands = engine.fence.stands(place.scopes, epoch)
            engine.drop_here(key)
            epoch = engine.fence.epoch
        can = stands and is_shared and _can_replace(engine, key[0], policy, sight)
        forms = forms_of(value, policy, for_servers=True) if can else None
        letter = None if forms is None else _letter(engine, key[0], policy, forms, sight)
        if forms is not None and letter is not None:
            told: Any = {"names": policy.names, "owed": owed, "clock": engine.host.clock, "budget": budget}
            if not await swap(engine.remote, sight, letter, key[0], place.tags, **told, mode=mode):
                if not engine.remote.tiers[0].of(key[0]).debt.covers(key):
                    return None  # another has put or dropped it meanwhile, and nobody can tell which is newer
                sight.versions = None
            if forms.held is not None and policy.in_memory:
                engine.put(place, policy, forms.held, ttl_s=policy.ttl_s, epoch=epoch, sight=sight)
            return forms.refused
        await engine.remote.drop(owed, budget=budget, mode=mode)
    except BaseException:
        for level, _ in owed:
            level.wake()
        raise
    if not stands:
        return None
    again = await engine.remote.look(key[0], place.tags, policy.names, budget=budget, mode=mode, blind=True)
    await engine.remote.prepare(again, key[0], place.tags, policy.ttl_s, budget=budget, mode=mode)
    again.missed = [name for name in again.missed if name in sight.missed]
    return (await engine.keep(place, policy, value, again, epoch=epoch, budget=budget, mode=mode)).refused


def _can_replace(engine: Engine, key: str, policy: Policy, sight: Sight) -> bool:
    """Tell whether the server that keeps the counters can take the new value for the old one in one instant."""
    remote, versions = engine.remote, sight.versions
    if versions is None or not versions.is_whole or remote.tiers[0].name not in sight.missed:
        return False
    return remote.time_of(key).is_known and can_swap(remote, key, policy.names)


def _letter(engine: Engine, key: str, policy: Policy, forms: Forms, sight: Sight) -> Letter | None:
    """Return what a server is to store; None where the value has no exact form as bytes."""
    if forms.packed is None or sight.versions is None:
        return None
    fence, generations = sight.versions
    now_ms, ttl_ms = int(engine.remote.time_of(key).now() * 1000), max(1, int(policy.ttl_s * 1000))
    seen = tuple([number or 0 for number in generations])
    return Letter(*forms.packed, now_ms, ttl_ms, fence or 0, seen, forms.shape)
