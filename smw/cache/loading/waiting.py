"""What ends a caller's wait for a load that goes on: an expired value after a while, or an error; knows no level."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from smw.errors import LoadTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from smw._kernel.call import Mode
    from smw._kernel.flight import Meanwhile
    from smw.cache.levels.engine import Place
    from smw.cache.options import Options
    from smw.cache.sight.stats import Stats
    from smw.cache.values.forms import Finding

    Spare = Callable[[Place, Mode], Awaitable[Finding | None]]

__all__ = ["Patience"]


class Patience:
    """How long the callers of one function wait.

    Args:
        function: ``module:qualname``.
        options: What the decorator was told.
        stats: Where ended waits are counted.
        spare: Returns what may be handed out instead, or None.
    """

    def __init__(self, function: str, options: Options, stats: Stats, spare: Spare) -> None:
        self._function = function
        self._soft_s = options.soft_timeout_s
        self._hard_s = options.hard_timeout_s
        self._stats = stats
        self._spare = spare

    def of(self, place: Place, mode: Mode) -> Meanwhile:
        """Return the steps of the wait for the load of `place`."""
        steps: list[tuple[float, Callable[[], Awaitable[tuple[Finding] | None]]]] = []
        if self._soft_s is not None:
            steps.append((self._soft_s, partial(self._soft, place, mode)))
        if self._hard_s is not None:
            steps.append((self._hard_s, partial(self._hard, place, mode, self._hard_s)))
        return steps

    async def _soft(self, place: Place, mode: Mode) -> tuple[Finding] | None:
        spare = await self._spare(place, mode)
        if spare is None:
            return None
        self._stats.ended_waits["soft"] += 1
        return (spare,)

    async def _hard(self, place: Place, mode: Mode, after_s: float) -> tuple[Finding]:
        spare = await self._spare(place, mode)
        self._stats.ended_waits["hard"] += 1
        if spare is not None:
            return (spare,)
        what = f"{self._function} has not returned within hard_timeout={after_s:g} s; it goes on in the background"
        raise LoadTimeout("SMW-C153", what, fix="try again, or give it more time with hard_timeout=")
