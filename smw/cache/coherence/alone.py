"""Says once that a drop reaches one process of several, where no server tells the others; drops nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from weakref import WeakSet

from smw._kernel.workers import is_one_of_several

if TYPE_CHECKING:
    from smw.cache.levels.engine import Engine

__all__ = ["warn_if_alone"]

_log = logging.getLogger("smw.cache")
_asked: WeakSet[Engine] = WeakSet()


def warn_if_alone(engine: Engine) -> None:
    """Warn at the first drop of a cache in production, if there are other workers and nobody to tell them."""
    keeps_nothing = not engine.memory.most_entries
    if keeps_nothing or engine.remote.tiers or engine.host.profile != "production" or engine in _asked:
        return
    _asked.add(engine)
    if is_one_of_several():
        _log.warning(
            "a drop reaches the memory of this worker alone: the others answer from theirs until each result's ttl "
            "ends; with a Redis (CACHE_L2_URL) they hear of it"
        )
