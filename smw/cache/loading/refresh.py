"""Decides when a value is loaded anew before it expires, and does so; knows no function."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from smw._kernel.call import Mode
    from smw.cache.levels.engine import Engine, Place
    from smw.cache.levels.remote import Sight
    from smw.cache.values.forms import Finding, Policy

__all__ = ["XFETCH", "Ahead", "ahead_of", "renewed"]

XFETCH = 0.0
"""In the place of a share of the time to live: by chance, the sooner the longer a load takes."""
WORTH_S = 0.01
"""What loads faster is not worth it: whoever comes first after the end waits no longer than that."""
_EARLIEST = 8
_ROUNDING_S = 0.01


class Ahead(NamedTuple):
    """When a value is loaded anew.

    Attributes:
        at: On the monotonic clock: not before.
        ends: When its life ends.
        took_s: How long the last load took, by which chance is weighed; 0: `at` without chance.
    """

    at: float
    ends: float
    took_s: float

    def is_due(self, now: float, random: Callable[[], float]) -> bool:
        """Tell whether the caller of this moment is to load it anew.

        With chance the first of many callers begins about one load before the end, and the more callers there are the
        earlier: optimal probabilistic cache stampede prevention, "XFetch" (Vattani, Chierichetti and Lowenstein, 2015).
        """
        if now < self.at:
            return False
        return self.took_s <= 0 or now - self.took_s * math.log(1.0 - random()) >= self.ends


def ahead_of(share: float | None, *, ends: float, life_s: float, took_s: float) -> Ahead | None:
    """Return when to load a value anew, or None where it is not.

    Args:
        share: After which share of its life; `XFETCH`; None never.
        ends: When its life ends, on the monotonic clock.
        life_s: How long its life is from beginning to end.
        took_s: How long loading it took.
    """
    if share is None or (share == XFETCH and took_s < WORTH_S):
        return None
    if share == XFETCH:
        return Ahead(ends - min(_EARLIEST * took_s, life_s / 2), ends, took_s)
    return Ahead(ends - (1 - share) * life_s, ends, 0.0)


async def renewed(
    engine: Engine,
    place: Place,
    policy: Policy,
    load: Callable[[], Awaitable[Any]],
    mode: Mode,
    *,
    ends: float,
    note: Callable[[Sight], None],
) -> Finding | None:
    """Put a newer value in the place of one that still stands: a server's, or else a loaded one.

    None stands for one that another process is loading.

    Args:
        engine: The levels.
        place: Where it belongs.
        policy: How it is kept.
        load: Calls the function.
        mode: The caller's mode.
        ends: When the life of the present one ends.
        note: Is told what the servers showed before the load.

    Raises:
        BaseException: What `load` raises, and nothing else.
    """
    if place.text is None or not engine.remote.tiers:
        return await engine.load_here(place, policy, load)
    epoch, budget, ask = engine.fence.epoch, engine.budget(), engine.remote.look
    sight = await ask(place.text, place.tags, policy.names, budget=budget, mode=mode)
    if sight.letter is not None:
        left_s = sight.letter.remaining_s(engine.remote.time_of(place.text).now())
        if engine.host.clock.now() + left_s > ends + _ROUNDING_S:  # another process was faster
            found = await engine.unpacked(place, policy, sight, epoch=epoch, budget=budget, mode=mode)
            if found is not None:
                return found
        sight = await ask(place.text, place.tags, policy.names, budget=budget, mode=mode, blind=True)
    note(sight)
    if policy.is_of_fleet and engine.fleet is not None:
        return await engine.fleet.renew(place, policy, load, mode, sight=sight, epoch=epoch, budget=budget)
    return await engine.load(place, policy, load, mode, sight=sight, epoch=epoch, budget=budget)
