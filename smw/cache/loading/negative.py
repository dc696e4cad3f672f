"""Keeps an exception as an entry of memory that raises when it is read; knows no level."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from smw._kernel.raising import StoppedError, copied
from smw.cache.values.copies import Held, survey

if TYPE_CHECKING:
    from smw.cache.sight.stats import Stats

__all__ = ["kept_classes", "kept_exception"]


def kept_classes(given: tuple[type[Exception], ...]) -> tuple[type[Exception], ...]:
    """Return what is to be caught where exceptions of these classes are kept: one comes in another's clothes."""
    return (*given, StoppedError) if issubclass(StopIteration, given) else given


def kept_exception(error: Exception, stats: Stats) -> Held | None:
    """Return the form for memory of an exception: every reader gets a copy of its own, raised where it stands.

    It is None for one that cannot be copied.

    Args:
        error: What the function has raised.
        stats: Where reading it is counted.
    """

    def again(kept: Exception) -> NoReturn:
        stats.hits -= 1  # whoever reads an entry has counted a hit
        stats.others["l1", "negative"] += 1
        raise copied(kept)

    try:
        kept = copied(error)
        copied(kept)
    except Exception:  # noqa: BLE001 - whatever its class forbids; the caller is to get the exception itself
        return None
    return Held(kept, again, survey(kept).size)
