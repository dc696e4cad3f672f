"""How each part that is open stands, told when somebody asks; knows neither who asks nor what the parts do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

__all__ = ["Standing", "Standings"]

_log = logging.getLogger("smw.health")


class Standing(NamedTuple):
    """One thing that works or does not, as it is known without asking anything for it.

    Attributes:
        name: Such as ``cache.l2``.
        is_well: Whether it does what it is there for.
        seen: One short line for people, without secrets.
    """

    name: str
    is_well: bool
    seen: str


Source = Callable[[], Iterable[Standing]]


class Standings:
    """What the parts of one runtime tell of themselves."""

    def __init__(self) -> None:
        self._sources: tuple[Source, ...] = ()

    def add(self, source: Source) -> Callable[[], None]:
        """Ask `source` too, which must neither block nor fail; returns the function that ends that."""
        self._sources = (*self._sources, source)

        def end() -> None:
            self._sources = tuple(other for other in self._sources if other is not source)

        return end

    def __iter__(self) -> Iterator[Standing]:
        """Yield what all of them tell; one that fails is logged and passed over."""
        for source in self._sources:
            try:
                told = tuple(source())
            except Exception:  # noqa: BLE001 - one part's mistake must not hide how the others stand
                _log.exception("a part could not tell how it stands")
                continue
            yield from told
