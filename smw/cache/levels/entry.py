"""What memory keeps of one value: the value, until when it may be handed out, and what it can be dropped by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from smw.cache.coherence.depending import Basis
    from smw.cache.loading.refresh import Ahead

__all__ = ["ENTRY_BYTES", "SCOPE_BYTES", "Entry", "Table", "Terms"]

ENTRY_BYTES, SCOPE_BYTES = 540, 360
"""What an entry costs beside its value (the object, its key, its place in a table and a queue), and each scope that it
alone stands under (text, place in the index, and set), its own key being one of them."""
REMOVED, NEWCOMER, MAIN = -1, 0, 1
_NEVER = float("-inf")

Table = dict[Any, "Entry"]
_NOWHERE: Table = {}


class Terms:
    """What bounds the life of an entry besides one moment; one without has nothing to be asked and one end.

    Attributes:
        expires: When its time to live ends; `Entry.deadline` never lies beyond it.
        trusted: Until when nobody needs to be asked whether it still stands.
        stale_until: Until when it may stand in for a load that fails.
        ahead: When it is to be loaded anew before it expires; None: not at all.
        ticket: What the remote levels said when it was stored, to ask them whether it still stands.
        asked: When the question was asked to which `ticket` is the newest answer; minus infinity without one.
        basis: The cached results that it was made from, as far as it is dropped with them.
    """

    __slots__ = ("ahead", "asked", "basis", "expires", "stale_until", "ticket", "trusted")

    def __init__(
        self,
        expires: float,
        trusted: float,
        *,
        stale_until: float = 0.0,
        ahead: Ahead | None = None,
        ticket: Any = None,
        asked: float = _NEVER,
        basis: Basis | None = None,
    ) -> None:
        self.expires = expires
        self.trusted = trusted
        self.stale_until = stale_until
        self.ahead = ahead
        self.ticket = ticket
        self.asked = asked
        self.basis = basis

    @property
    def deadline(self) -> float:
        """Until when it may be handed out without looking further than whether it is to be loaded anew."""
        return self.trusted if self.ahead is None else min(self.trusted, self.ahead.at)


class Entry:
    """A value in memory, as `Memory.put` makes it: it has no constructor, which would cost as much as all its fields.

    Attributes:
        value: What `thaw` takes, or the value itself where `thaw` is None.
        deadline: On the monotonic clock: until when it may be handed out without looking further.
        touched: 1 when it was handed out since eviction last looked, 2 when that has been counted since (`Heat`).
        thaw: Makes the caller's own copy.
        bytes: What it is estimated to take.
        home: The table in which it is found.
        key: Its key there.
        scopes: Tags and the key text under which it can be dropped.
        terms: What bounds its life besides `deadline`; None: nothing.
        rank: Where it stands in the order of eviction: removed, a newcomer, or in the main queue, where each time that
            it is found touched lifts it by one.
    """

    __slots__ = ("bytes", "deadline", "home", "key", "rank", "scopes", "terms", "thaw", "touched", "value")

    value: Any
    deadline: float
    touched: int
    thaw: Callable[[Any], Any] | None
    bytes: int
    home: Table
    key: Hashable
    scopes: tuple[str, ...]
    terms: Terms | None
    rank: int

    @property
    def alive(self) -> bool:
        """Whether memory still has it."""
        return self.rank >= 0

    @property
    def expires(self) -> float:
        """When its time to live ends."""
        return self.deadline if self.terms is None else self.terms.expires

    @property
    def trusted(self) -> float:
        """Until when nobody needs to be asked whether it still stands."""
        return self.deadline if self.terms is None else self.terms.trusted

    @property
    def stale_until(self) -> float:
        """Until when it may stand in for a load that fails."""
        return self.deadline if self.terms is None else self.terms.stale_until

    @property
    def ahead(self) -> Ahead | None:
        """When it is to be loaded anew before it expires; None: not at all."""
        return None if self.terms is None else self.terms.ahead

    @property
    def ticket(self) -> Any:
        """What the remote levels said when it was stored; None where they said nothing, and once it is removed."""
        return None if self.terms is None else self.terms.ticket

    @property
    def asked(self) -> float:
        """When the question was asked to which `ticket` is the newest answer; minus infinity without one."""
        return _NEVER if self.terms is None else self.terms.asked

    @asked.setter
    def asked(self, at: float) -> None:
        if self.terms is not None:
            self.terms.asked = at

    @property
    def basis(self) -> Basis | None:
        """The cached results that it was made from, as far as it is dropped with them."""
        return None if self.terms is None else self.terms.basis

    def trust(self, until: float) -> None:
        """Let it be handed out until then, without looking further than whether it is to be loaded anew."""
        if self.terms is not None:
            self.terms.trusted = until
            self.deadline = self.terms.deadline

    def postpone(self, at: float) -> None:
        """Do not have it loaded anew before then."""
        if self.terms is not None and self.terms.ahead is not None:
            self.terms.ahead = self.terms.ahead._replace(at=max(at, self.terms.ahead.at))
            self.deadline = self.terms.deadline

    def leave(self) -> None:
        """Be found by nobody any more, wherever its place in a queue still is."""
        self.rank, self.touched = REMOVED, 1
        self.home, self.scopes = _NOWHERE, ()
        if self.terms is not None:
            self.terms.ticket = None  # after the scopes: who reads both reads them first

    @property
    def tags(self) -> tuple[str, ...]:
        """Its own tags, without those of what it was made from."""
        ticket, basis = self.ticket, self.basis
        if ticket is not None:
            return self.scopes[1 : 1 + len(ticket.generations)]
        return self.scopes[1:] if basis is None else tuple([tag for tag in self.scopes[1:] if tag not in basis.scopes])

    def copy(self) -> Any:
        """Return the value for one more caller."""
        return self.value if self.thaw is None else self.thaw(self.value)
