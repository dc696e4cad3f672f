"""Remembers what a server has acknowledged to drop, and knows older values by it whatever the server does; no I/O."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from smw._kernel.process import ForkLock
from smw.cache.naming.names import fence_of, is_fence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.clock import Clock
    from smw.cache.coherence.debt import Owed

__all__ = ["Receipts"]

MOST = 10_000
MARGIN_S = 2.0
"""How far two processes may be apart in what they take for the server's time, and more."""
_RESOLUTION_S = 0.001
NEVER, EVER = float("-inf"), float("inf")


class Receipts:
    """What this process has dropped at one server, and what the counters showed then.

    A value carries what they showed before it was loaded, so one with a smaller number is older than the drop. A server
    that has lost the drop, or another one in its place, hands out smaller numbers again: then time decides, some
    seconds later.

    Args:
        clock: Where time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self._lock = ForkLock()
        self._of: dict[str, tuple[float, float]] = {}
        self._floor = NEVER

    def __len__(self) -> int:
        """Return how many drops are remembered one by one."""
        return len(self._of)

    def note(self, dropped: Owed, shown: Sequence[float] | None, *, until: float | None = None) -> None:
        """Remember what the server has acknowledged, before it is struck from the debts.

        Args:
            dropped: What it was told.
            shown: What each counter shows now; None where the server's numbers do not grow.
            until: On the monotonic clock: what was made later is newer whatever it carries; None in a moment.
        """
        if shown is None:
            return
        ends = self._now() + MARGIN_S if until is None else until
        numbers: dict[str, float] = dict(zip(dropped.counters, shown, strict=True))
        found = [(name, number) for name, number in numbers.items() if not is_fence(name)]
        found += [(key, numbers.get(fence_of(key), EVER)) for key in dropped.keys]
        with self._lock:
            for scope, number in found:
                before, _ = self._of.pop(scope, (NEVER, NEVER))  # those of late come last
                self._of[scope] = max(before, number), ends
            if len(self._of) > MOST:
                self._forget()

    def _forget(self) -> None:
        for scope in list(islice(self._of, len(self._of) - MOST // 2)):
            self._floor = max(self._floor, self._of.pop(scope)[1])

    def outdates(self, scopes: Sequence[str], carried: Sequence[int], made: float) -> bool:
        """Tell whether a value is older than a drop of any of `scopes`.

        Args:
            scopes: Its key and its tags.
            carried: What it says of their counters, as far as it does.
            made: When it was stored, on the monotonic clock.
        """
        if made < self._floor:
            return True
        if len(carried) != len(scopes):  # stored while nobody told what they showed
            carried = (0,) * len(scopes)
        known = self._of
        for scope, number in zip(scopes, carried, strict=True):
            receipt = known.get(scope)
            if receipt is not None and number < receipt[0] and made + _RESOLUTION_S < receipt[1]:
                return True
        return False
