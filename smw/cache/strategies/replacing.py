"""Puts a value in the place of what the levels hold, or drops that; knows neither who wrote it nor its name.

Whoever writes looks at the key's counter first. When the source has it, one script raises the counter, which dooms all
loads that began before, and stores the new value only if the counter still showed what was seen: then no other writer
has ended in between. Of writers that overlap the first to end stores its value and every later one drops it, for nobody
can tell in which order the source took them. What is put has no source but its caller: of values that are put at once
that of the last stays.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from smw.cache.coherence.depending import lasting
from smw.cache.levels.swapping import can_swap, insist, swap
from smw.cache.values.envelope import Letter
from smw.cache.values.forms import Packing, forms_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.guard import Budget
    from smw.cache.coherence.debt import Owed
    from smw.cache.levels.engine import Engine, Place
    from smw.cache.levels.level import Level
    from smw.cache.levels.remote import Sight
    from smw.cache.values.forms import Forms, Policy

__all__ = ["Before", "look_before", "look_blind", "put", "replace"]


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
    return Before(stamp, await look_blind(engine, place, policy, engine.budget(), mode), epoch)


async def look_blind(engine: Engine, place: Place, policy: Policy, budget: Budget, mode: Mode) -> Sight:
    """Return what the servers show of `place`, whose counters are there from now on."""
    remote, text, longest_s = engine.remote, place.text or "", policy.ttl_s + policy.stale_s
    sight = await remote.look(text, place.tags, policy.names, budget=budget, mode=mode, blind=True)
    await remote.prepare(sight, text, place.tags, longest_s, budget=budget, mode=mode)
    return sight


@contextmanager
def _owing(engine: Engine, key: Sequence[str]) -> Iterator[list[tuple[Level, Owed]]]:
    """Owe servers the drop of a key: they are told in the background where nobody comes to it here."""
    owed = engine.remote.owe((), key)
    try:
        yield owed
    except BaseException:
        for level, _ in owed:
            level.wake()
        raise


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
    own, basis, sight = place.scopes[:1], place.basis, before.sight
    with _owing(engine, own if sight is not None else ()) as owed:
        with engine.memory.lock:
            alone = engine.fence.stands(place.scopes, before.stamp)
            if basis is not None:
                alone = alone and basis.is_kept and engine.fence.stands(basis.scopes, before.epoch)
            engine.drop_here(own)
            epoch = engine.fence.epoch
        packing = Packing(value, policy.codec)
        ttl_s = lasting(place, policy.lasts(place.key, value, packing), engine.host.clock.now())
        forms = forms_of(value, policy, for_servers=sight is not None, packing=packing)
        if not alone or ttl_s <= 0:
            await engine.remote.drop(owed, budget=engine.budget(), mode=mode)
            return False
        if sight is not None:
            letter = _letter(engine, own[0], policy, forms, sight, ttl_s=ttl_s)
            if letter is not None and basis is not None:
                letter = None if basis.lacks else letter._replace(depends=basis.depends)
            if letter is None:
                await engine.remote.drop(owed, budget=engine.budget(), mode=mode)
                return False
            told: Any = {"names": policy.names, "owed": owed, "clock": engine.host.clock, "budget": engine.budget()}
            if not await swap(engine.remote, sight, letter, own[0], place.tags, **told, mode=mode):
                return False
    if forms.held is not None and policy.in_memory:
        engine.put(place, policy, forms.held, ttl_s=ttl_s, epoch=epoch, sight=sight)
    return True


async def put(
    engine: Engine,
    place: Place,
    policy: Policy,
    value: Any,
    sight: Sight,
    *,
    epoch: int,
    insists: bool,
    budget: Budget,
    mode: Mode,
) -> tuple[str, str] | None:
    """Put `value` in the place of what is there; whatever becomes of it, nobody reads that any more.

    A server that does not answer owes a drop of the key: then the value is in this memory alone, until that is done.

    Args:
        engine: The levels.
        place: Where the value belongs.
        policy: How it is kept.
        value: The value.
        sight: What `look_blind` has returned.
        epoch: The fence's epoch before it was made; what was dropped since is not kept.
        insists: It is newer than what others do with the key meanwhile, be it a drop; else nobody can tell.
        budget: What may be spent.
        mode: The caller's mode.

    Returns:
        (reason, type) where it is not kept as asked.
    """
    own = place.scopes[:1]
    with _owing(engine, own) as owed:
        with engine.memory.lock:
            stands = engine.fence.stands(place.scopes[1:] if insists else place.scopes, epoch)
            engine.drop_here(own)
            epoch = engine.fence.epoch
        forms = forms_of(value, policy, for_servers=True) if stands and sight.missed else None
        letter = None if forms is None else _letter(engine, own[0], policy, forms, sight, ttl_s=policy.ttl_s)
        if forms is not None and letter is not None:
            told: Any = {"names": policy.names, "owed": owed, "clock": engine.host.clock, "budget": budget}
            done = await swap(engine.remote, sight, letter, own[0], place.tags, **told, mode=mode)
            if not done and not engine.remote.tiers[0].of(own[0]).debt.covers(own):  # another has changed it meanwhile
                engine.drop_here(own)  # what another caller of this process may have put there
                if insists:
                    await insist(engine.remote, sight, letter, own[0], place.tags, budget=budget, mode=mode)
                return None
            if forms.held is not None and policy.in_memory:
                engine.put(place, policy, forms.held, ttl_s=policy.ttl_s, epoch=epoch, sight=sight)
            return forms.refused
        await engine.remote.drop(owed, budget=budget, mode=mode)
    if not stands:
        return None
    again = await look_blind(engine, place, policy, budget, mode)
    again.missed = [name for name in again.missed if name in sight.missed]
    return (await engine.keep(place, policy, value, again, epoch=epoch, budget=budget, mode=mode)).refused


def _letter(engine: Engine, key: str, policy: Policy, forms: Forms, sight: Sight, *, ttl_s: float) -> Letter | None:
    """Return what the server that keeps the counters is to store in one instant, or None where it cannot."""
    versions, time = sight.versions, engine.remote.time_of(key) if engine.remote.tiers else None
    if forms.packed is None or versions is None or versions.fence is None or not versions.is_whole:
        return None
    if time is None or not time.is_known or not can_swap(engine.remote, key, policy.names):
        return None  # without its time nobody could tell later how old it is
    created_ms, ttl_ms = int(time.now() * 1000), max(1, int(ttl_s * 1000))
    seen = tuple([number for number in versions.generations if number is not None])
    return Letter(*forms.packed, created_ms, ttl_ms, versions.fence, seen, forms.shape, int(policy.stale_s * 1000))
