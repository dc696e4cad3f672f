"""Remembers where the master of each URL was last seen, and tells when it is another one; asks nobody."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from smw._kernel.process import ForkLock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Whereabouts", "whereabouts"]


class Whereabouts:
    """Where one master was last seen, for all connections of this process that lead to it."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._seen: tuple[str, int] | None = None
        self._listeners: list[weakref.WeakMethod[Callable[[], None]]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a bound method called each time the master is another one, in whichever thread sees it; held weakly."""
        with self._lock:
            living = [known for known in self._listeners if known() is not None]
            self._listeners = [*living, weakref.WeakMethod(listener)]

    def saw(self, address: tuple[str, int]) -> None:
        """Note where the master is."""
        with self._lock:
            moved, self._seen = self._seen not in (None, address), address
            listeners = [known() for known in self._listeners] if moved else []
        for listener in listeners:
            if listener is not None:
                listener()


_places: weakref.WeakValueDictionary[str, Whereabouts] = weakref.WeakValueDictionary()


def whereabouts(url: str) -> Whereabouts:
    """Return what is known of the master behind `url`; whoever uses it keeps it alive."""
    return _places.setdefault(url, Whereabouts())
