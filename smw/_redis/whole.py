"""Lets the time-out of a blocking connection cover a whole exchange; knows nothing of where it leads."""

from __future__ import annotations

from typing import Any

from smw._kernel import deadline

__all__ = ["whole_exchange"]


def whole_exchange(base: type[Any]) -> type[Any]:
    """Return a connection class like `base`, a plain TCP one, on a socket that keeps the deadline of an exchange."""

    class Connection(base):  # type: ignore[misc]
        def _connect(self) -> Any:
            return deadline.over(super()._connect())

    return Connection
