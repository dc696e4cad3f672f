"""Where parts ask for a span around what they do; knows neither who records spans nor how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    Maker = Callable[[str, str, Mapping[str, Any]], AbstractContextManager[Any] | None]

__all__ = ["Spanning"]


class Spanning:
    """Hands a part's wish for a span to whoever records them; without anybody it costs one comparison."""

    def __init__(self) -> None:
        self._makers: tuple[Maker, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether anybody might record one."""
        return bool(self._makers)

    def offer(self, make: Maker) -> Callable[[], None]:
        """Have `make` called with name, kind and attributes for each span; returns the function that ends it.

        Args:
            make: Returns what records the block that it is entered around, or None where nobody would see it.
        """
        self._makers = (make, *self._makers)

        def end() -> None:
            self._makers = tuple(other for other in self._makers if other is not make)

        return end

    def around(self, name: str, kind: str, attributes: Mapping[str, Any]) -> AbstractContextManager[Any] | None:
        """Return what records a span around a block, or None where nobody would see it.

        Args:
            name: Of the span; one of few.
            kind: ``internal``, ``client``, ``producer`` or ``consumer``.
            attributes: Of the span; nothing personal.
        """
        return self._makers[0](name, kind, attributes) if self._makers else None
