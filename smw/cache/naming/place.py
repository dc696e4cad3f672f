"""Where one value belongs, and what a look for it has shown; decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from smw._kernel.guard import Budget
    from smw.cache.coherence.depending import Basis
    from smw.cache.levels.memory import Table
    from smw.cache.levels.remote import Sight
    from smw.cache.values.forms import Finding

__all__ = ["OF_INSTANCE", "Look", "Place"]

OF_INSTANCE = "i:"
"""Begins what stands for the key of a result that belongs to an instance; no full key begins so."""


class Place(NamedTuple):
    """Where one value belongs.

    Attributes:
        home: Table in memory.
        key: Key within it.
        text: Full key for servers and for dropping; None keeps it off the servers.
        tags: Names of the counters of its tags, that of everything first.
        scopes: All under which it can be dropped, its own first.
        basis: What it is made from, as far as that is collected.
        is_stepped: Whether its load is one of several that a blocking caller makes at once, and may be suspended.
        fence: What `fence_of` returns for its full key, where somebody has asked already.
    """

    home: Table
    key: Hashable
    text: str | None
    tags: tuple[str, ...]
    scopes: tuple[str, ...]
    basis: Basis | None = None
    is_stepped: bool = False
    fence: str = ""

    @property
    def of_instance(self) -> bool:
        """Whether it belongs to an instance, so that nothing outside this process can name it."""
        return self.scopes[0].startswith(OF_INSTANCE)


class Look(NamedTuple):
    """What a look at the levels behind memory has shown, and what it has cost.

    Attributes:
        found: The value, or None.
        sight: What the servers showed.
        budget: What may still be spent.
        epoch: The fence's epoch before looking.
    """

    found: Finding | None
    sight: Sight
    budget: Budget
    epoch: int
