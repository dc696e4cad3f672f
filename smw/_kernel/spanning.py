"""Where parts ask for a span around what they do; knows neither who records spans nor how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    Maker = Callable[[str, str, Mapping[str, Any]], AbstractContextManager[Any]]

__all__ = ["Spanning"]


class Spanning:
    """Hands a part's wish for a span to whoever records them; without anybody it costs one comparison."""

    def __init__(self) -> None:
        self._offers: tuple[tuple[Maker, Callable[[], bool]], ...] = ()

    def offer(self, make: Maker, is_seen: Callable[[], bool]) -> Callable[[], None]:
        """Have `make` called with name, kind and attributes for each span; returns the function that ends it.

        Args:
            make: Returns what records the block that it is entered around.
            is_seen: Tells whether anybody would see spans at this moment; it is asked often, so it has to be quick.
        """
        offer = make, is_seen
        self._offers = (offer, *self._offers)

        def end() -> None:
            self._offers = tuple(other for other in self._offers if other is not offer)

        return end

    @property
    def wanted(self) -> bool:
        """Whether anybody would see a span now."""
        return bool(self._offers) and self._offers[0][1]()

    def around(self, name: str, kind: str, attributes: Mapping[str, Any]) -> AbstractContextManager[Any] | None:
        """Return what records a span around a block, or None where nobody offers that.

        Args:
            name: Of the span; one of few.
            kind: ``internal``, ``client``, ``producer`` or ``consumer``.
            attributes: Of the span; nothing personal.
        """
        offers = self._offers  # a monitor may be closing at this moment
        return offers[0][0](name, kind, attributes) if offers else None
