"""Tells of stored entries that were changed, or moved to another key, since they were written; decides nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from smw._kernel.signals import CacheTampered

if TYPE_CHECKING:
    from smw._kernel.host import Host

__all__ = ["Tampering"]

_log = logging.getLogger("smw.cache")
_SAY_EVERY_S = 60.0
_SIGNS = frozenset({"seal", "checksum"})
"""Of the reasons why an entry does not open, those that no retired key, other setting or foreign program explains."""


class Tampering:
    """Hears why entries did not open.

    Args:
        host: Whose bus carries what is suspicious, and whose clock tells when to log it again.
    """

    def __init__(self, host: Host) -> None:
        self._bus = host.bus
        self._now = host.clock.now
        self._said_at: dict[str, float] = {}

    def __call__(self, level: str, reason: str) -> None:
        """Hear that an entry of `level` did not open."""
        if reason not in _SIGNS:
            return
        self._bus.send(CacheTampered(level, reason))
        now = self._now()
        if now - self._said_at.get(level, -_SAY_EVERY_S) >= _SAY_EVERY_S:
            self._said_at[level] = now
            text = "an entry of %s was changed since it was stored, or moved to another key (%s); said once a minute"
            _log.warning(text, level, reason, extra={"cache_level": level})
