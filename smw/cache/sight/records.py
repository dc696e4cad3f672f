"""How the cache logs: as one component, with level, key and time to live; a hit in memory leaves no record."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.call import Call
    from smw.cache.levels.engine import Place
    from smw.cache.values.forms import Finding

__all__ = ["COMPONENT", "Records", "dropped", "log"]

COMPONENT = "cache_middleware"
_LONGEST = 200


class _Component(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Name the component on every record of the cache, whichever module of it logs."""
        if not hasattr(record, "component"):
            record.component = COMPONENT
        return True


log = logging.getLogger("smw.cache")
log.addFilter(_Component())


def dropped(scopes: Sequence[str]) -> None:
    """Log at level DEBUG what was dropped: keys, and counters of tags, all of them digests."""
    if log.isEnabledFor(logging.DEBUG):
        told = {"cache_level": "all", "key": ", ".join(scopes)[:_LONGEST], "ttl": 0.0}
        log.debug("cache drop", extra=told)


class Records:
    """What is logged of one function's calls, at level DEBUG.

    Args:
        function: ``module:qualname``.
        ttl_s: Its time to live; None where each result has its own.
        clear: Whether keys may show arguments.
    """

    def __init__(self, function: str, ttl_s: float | None, *, clear: bool) -> None:
        self._function = function
        self._ttl_s = ttl_s
        self._clear = clear

    def answered(self, finding: Finding, call: Call, place: Place) -> None:
        """Log where an answer came from."""
        if log.isEnabledFor(logging.DEBUG):
            level = finding.level or "source"
            told = {"cache_level": level, "key": self._key(call, place), "ttl": self._ttl_s}
            what = "stale" if finding.is_stale else "hit" if finding.level else "miss"
            log.debug("cache %s", what, extra=told)

    def _key(self, call: Call, place: Place) -> str:
        if not self._clear:
            return place.scopes[0]
        try:
            shown = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
        except Exception as error:  # noqa: BLE001 - a repr of the user's may do anything
            shown = type(error).__name__
        return f"{self._function}({shown})"[:_LONGEST]
