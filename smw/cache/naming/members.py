"""Lets entries in memory die with the instance that they belong to; knows no level behind memory."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.process import ForkLock

if TYPE_CHECKING:
    from smw.cache.levels.engine import Place
    from smw.cache.levels.memory import Entry, Memory

__all__ = ["Members"]

_SWEEP_FROM = 64


class Members:
    """The entries of instances without an identity of their own.

    Args:
        memory: Where the entries are.
    """

    def __init__(self, memory: Memory) -> None:
        self.held: dict[int, tuple[weakref.ref[Any], dict[Any, Entry]]] = {}
        self._memory = memory
        self._lock = ForkLock()

    def adopt(self, instance: Any, place: Place) -> None:
        """Let what memory has at `place` end with `instance`."""
        entry = place.home.get(place.key)
        if entry is None:
            return
        with self._lock:
            held = self.held.get(id(instance))
            if held is None:
                ref = weakref.ref(instance, partial(self._orphaned, id(instance)))
                held = self.held[id(instance)] = ref, {}
            members = held[1]
            members[place.key] = entry
            if len(members) % _SWEEP_FROM == 0:
                for key in [key for key, member in members.items() if not member.alive]:
                    del members[key]

    def _orphaned(self, identity: int, _ref: object) -> None:
        with self._lock:  # re-entrant: the collector may call this from within
            held = self.held.pop(identity, None)
        if held is not None:
            for entry in held[1].values():
                self._memory.abandon(entry)
