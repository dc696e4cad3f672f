"""Tags that only a result can tell: they hold where no drop was missed during its load; knows neither key nor level.

Their counters can be read only when the result is there, which says nothing of a drop during the load. But every drop,
of whatever, raises the number of the server's messages and is told to all. So the counters are read, and then it is
made sure that each drop since the load began was heard, and so has begun a new epoch of what it dropped; or that there
was none. A drop that comes after the counters were read makes them differ, as for any other tag.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from smw._kernel.answers import answered
from smw.cache.coherence.depending import Basis
from smw.cache.naming.names import fence_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.chain import Proceed
    from smw.cache.coherence.backplane import Moment
    from smw.cache.levels.engine import Engine, Place
    from smw.cache.naming.names import Names

__all__ = ["ResultTags"]


class _NoTagError(Exception):
    """What a function of the user returned is no tag; says of what type it is, and never what."""


class ResultTags:
    """The tags of one function's results that only they can tell.

    Args:
        functions: From a result to a text, several, or None.
        engine: The levels.
        names: How tags are called.
        lives_s: How long counters are needed.
    """

    def __init__(
        self, functions: Sequence[Callable[[Any], object]], engine: Engine, names: Names, *, lives_s: float
    ) -> None:
        self._functions = functions
        self._engine = engine
        self._names = names
        self._lives_s = lives_s

    def around(self, place: Place, proceed: Proceed, mode: Mode) -> tuple[Place, Proceed]:
        """Return `place` and `proceed`, which has the result dropped with the tags that it tells."""
        basis = place.basis or Basis(self._engine)

        async def load() -> Any:
            began = await self._moment(place, mode)
            value = await proceed()
            try:
                names = [self._names.tag(text) for text in self._texts(value)]
            except Exception as error:  # noqa: BLE001 - the function itself has succeeded
                what = str(error) if isinstance(error, _NoTagError) else type(error).__name__
                basis.refuse("failing-result-tag", what)
                return value
            if names:
                await self._take(basis, place, names, began, mode)
            return value

        return place._replace(basis=basis), load

    def _texts(self, value: Any) -> list[str]:
        return list(dict.fromkeys([text for function in self._functions for text in _told(function, value)]))

    async def _moment(self, place: Place, mode: Mode) -> Moment | None:
        """Return the present moment; None where no server knows what is dropped of `place`."""
        engine = self._engine
        if place.text is None or not engine.remote.tiers:
            return None
        now = engine.host.clock.now()
        engine.backplane.want(now)
        return await engine.backplane.of(place.text).moment(now, budget=engine.budget(), mode=mode)

    async def _take(self, basis: Basis, place: Place, names: list[str], began: Moment | None, mode: Mode) -> None:
        if began is None or place.text is None:
            basis.hold(names)
            return
        engine, key, numbers = self._engine, place.text, None
        budget, asked = engine.budget(), engine.host.clock.now()
        opened = await engine.remote.open(key, (fence_of(key), *names), self._lives_s, budget=budget, mode=mode)
        if opened is not None and await engine.backplane.of(key).knows_all_since(began, budget=budget, mode=mode):
            numbers = opened
        basis.tag(names, key, numbers, asked)


def _told(function: Callable[[Any], object], value: Any) -> list[str]:
    """Return the tags that one function tells of a result.

    Raises:
        _NoTagError: It failed, or told something else.
    """
    name = getattr(function, "__qualname__", type(function).__qualname__)
    try:
        told = answered(function(value))
        several = [] if told is None else [told] if isinstance(told, str) or not isinstance(told, Iterable) else [*told]
    except Exception as error:
        raise _NoTagError(f"{name}: {type(error).__name__}") from error
    texts = [str.__str__(each) if isinstance(each, str) else each for each in several]  # of a subclass its own text
    for text in texts:
        if not isinstance(text, str) or not text:
            kind = "an empty text" if isinstance(text, str) else type(text).__name__
            raise _NoTagError(f"{name} told {kind}")
    return texts
