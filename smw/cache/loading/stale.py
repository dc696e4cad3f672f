"""What may stand in for a load that fails: a value that has expired, never one that was dropped; calls no function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw.cache.values.codec import CorruptError
from smw.cache.values.forms import Finding

if TYPE_CHECKING:
    from collections.abc import Hashable

    from smw.cache.levels.engine import Engine, Look, Place
    from smw.cache.values.forms import Policy

__all__ = ["Resting", "stale_of"]

REST_S = 1.0
"""How long after a failed load the stale value is handed out without trying again."""
_MOST = 1000


def stale_of(engine: Engine, place: Place, policy: Policy, look: Look | None) -> Finding | None:
    """Return an expired value of `place` that nothing is known to have dropped, from memory or else from a server.

    Args:
        engine: The levels.
        place: Where it belongs.
        policy: How it is kept.
        look: What a look just now has shown; None where no server knows what was dropped of `place`.
    """
    entry = place.home.get(place.key)
    if entry is not None and entry.stale_until > engine.host.clock.now():
        seen = None if look is None else look.sight.versions
        if seen in (None, entry.ticket):
            return Finding("l1", copy=entry.copy, is_stale=True)
    if look is None or look.sight.stale is None or not engine.fence.stands(place.scopes, look.epoch):
        return None
    level, letter = look.sight.stale
    packed, codec = (letter.encoding, letter.payload), policy.codec
    try:
        value = codec.unpack(*packed)
    except CorruptError:
        engine.remote.corrupt[level] += 1
        return None
    age_s = engine.remote.time_of(place.text or "").now() - letter.created_ms / 1000
    engine.watch.ages.add(level, max(0.0, age_s))
    missed = tuple(name for name in look.sight.missed if name != level)
    return Finding(level, copy=lambda: codec.unpack(*packed), first=(value,), missed=missed, is_stale=True)


class Resting:
    """Loads that have failed and are not tried again at once.

    Args:
        engine: Whose clock counts.
    """

    def __init__(self, engine: Engine) -> None:
        self._now = engine.host.clock.now
        self._until: dict[Hashable, float] = {}

    def __contains__(self, load: Hashable) -> bool:
        """Tell whether `load` failed a moment ago."""
        return self._until.get(load, 0.0) > self._now()

    def until(self, load: Hashable) -> float:
        """Return when `load` is tried again; if nothing keeps it from that, a rest from now."""
        now = self._now()
        until = self._until.get(load, 0.0)
        return until if until > now else now + REST_S

    def failed(self, load: Hashable) -> None:
        """Have `load` rest."""
        now = self._now()
        if len(self._until) >= _MOST:
            self._until = {other: until for other, until in self._until.copy().items() if until > now}
        if len(self._until) < _MOST:
            self._until[load] = now + REST_S
