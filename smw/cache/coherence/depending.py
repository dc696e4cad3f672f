"""What a result was made from, so that it is dropped with any of that; knows no function and does no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from smw.cache.coherence.collecting import COLLECTING, hidden
from smw.cache.levels.memory import Entry
from smw.cache.naming.names import fence_of
from smw.cache.values.envelope import MOST_GENERATIONS, Dependency

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from smw._kernel.chain import Proceed
    from smw.cache.levels.engine import Engine, Place
    from smw.cache.levels.level import Level
    from smw.cache.options import Options
    from smw.cache.ports import Versions

__all__ = ["Basis", "Origin", "collecting", "joinable", "lasting", "scopes_of"]

_LEAST_S = 0.001
MOST_SCOPES = 10_000
"""A result that was made from more is not kept."""


class Origin(NamedTuple):
    """Where a result that was found or loaded comes from.

    Attributes:
        place: Where it belongs.
        versions: What stood before it was loaded or when it was found; None where nobody knows.
        asked: When that was asked.
    """

    place: Place
    versions: Versions | None
    asked: float


class Basis:
    """The cached results that one result was made from.

    Args:
        engine: The levels that keep it.

    Attributes:
        scopes: All under which those can be dropped.
        asked: When the oldest of what is known of them was asked.
        lacks: Why servers could not judge it; empty if they can.
        is_kept: Whether it can be dropped with all of them, so that it may be kept at all.
        until: When one of them is tried anew that only stood in for a load that failed.
    """

    __slots__ = ("_ended", "_engine", "_found", "_numbers", "_what", "asked", "is_kept", "lacks", "scopes", "until")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._found: dict[str, tuple[int, list[tuple[str, int]]]] = {}
        self._numbers: dict[tuple[Level | None, str], int] = {}
        self._ended = False
        self.scopes: dict[str, None] = {}
        self.asked = float("inf")
        self.lacks = self._what = ""
        self.is_kept = True
        self.until = float("inf")

    @classmethod
    def of_letter(cls, engine: Engine, depends: Sequence[Dependency], asked: float) -> Basis:
        """Return what a stored value says that it was made from."""
        basis = cls(engine)
        basis.asked = asked
        for each in depends:
            basis._note(each)
        basis._ended = True
        return basis

    def around(self, proceed: Proceed) -> Proceed:
        """Return `proceed` with what it asks of cached functions collected here."""

        async def load() -> Any:
            token = COLLECTING.set(self)
            try:
                return await proceed()
            finally:
                self._ended = True  # what runs on behind its back is no part of the result
                COLLECTING.reset(token)

        return load

    @property
    def depends(self) -> tuple[Dependency, ...]:
        """What servers are told of it."""
        return tuple([Dependency(key, fence, tuple(tags)) for key, (fence, tags) in self._found.items()])

    @property
    def refusal(self) -> tuple[str, str]:
        """Why servers, or nobody, are to keep it, and what of it is the matter."""
        return self.lacks, self._what or f"{len(self.scopes)} scopes"

    def add(
        self, engine: Engine, place: Place | None, origin: Entry | Origin | None, until: float = float("inf")
    ) -> None:
        """Take in one result that was handed out.

        Args:
            engine: The levels that keep it.
            place: Where it belongs.
            origin: Where it comes from; None where nobody knows.
            until: When it is tried anew, if it only stands in for a load that failed.
        """
        if self._ended:
            return
        self.until = min(self.until, until)
        if engine is not self._engine:
            self.refuse("foreign-dependency")
            return
        if isinstance(origin, Entry):
            scopes, versions, asked, basis = origin.scopes, origin.ticket, origin.asked, origin.basis
        else:
            place = place if origin is None else origin.place
            scopes, basis = (() if place is None else place.scopes), (None if place is None else place.basis)
            versions, asked = (None, 0.0) if origin is None else (origin.versions, origin.asked)
        if not scopes:  # removed from memory at this moment, perhaps because it was dropped
            self.refuse("unknown-dependency")
            return
        self.hold(scopes)
        if basis is not None:
            self._join(basis)
        if versions is None or versions.fence is None or not versions.is_whole:
            self._lack("unknown-dependency")
            return
        self.asked = min(self.asked, asked)
        tags = zip(scopes[1:], versions.generations, strict=False)  # behind them are those of its own basis
        known = tuple([(tag, number) for tag, number in tags if number is not None])
        self._note(Dependency(scopes[0], versions.fence, known))

    def _join(self, basis: Basis) -> None:
        self.hold(basis.scopes)
        self.asked, self.until = min(self.asked, basis.asked), min(self.until, basis.until)
        self.is_kept = self.is_kept and basis.is_kept
        self._lack(basis.lacks, basis._what)
        for each in basis.depends:
            self._note(each)

    def refuse(self, reason: str, what: str = "not kept at all") -> None:
        """Have the result kept nowhere."""
        self.is_kept = False
        self._lack(reason, what)

    def _lack(self, reason: str, what: str = "") -> None:
        if reason and not self.lacks:
            self.lacks, self._what = reason, what

    def tag(self, names: Sequence[str], key: str, numbers: Sequence[int] | None, asked: float) -> None:
        """Take in the tags that the result itself tells.

        Args:
            names: Names of their counters.
            key: The full key of the result, whose server has them.
            numbers: What the counter of the key and theirs show, if nothing of them was dropped during the load; None
                where that cannot be told.
            asked: When they were asked.
        """
        self.hold(names, many="many-result-tags")
        if numbers is None:
            self._lack("unheard-tags")
            return
        self.asked = min(self.asked, asked)
        told = Dependency(key, numbers[0], tuple(zip(names, numbers[1:], strict=True)))
        self._note(told, many="many-result-tags")

    def hold(self, scopes: Iterable[str], *, many: str = "many-dependencies") -> None:
        """Have the result dropped with `scopes` in this process."""
        self.scopes.update(dict.fromkeys(scopes))
        if len(self.scopes) > MOST_SCOPES:
            self.refuse(many)
            self.scopes = {}

    def _note(self, told: Dependency, *, many: str = "many-dependencies") -> None:
        """Note the counters of one result; one counter that has shown two numbers has been dropped meanwhile."""
        self.hold((told.key, *[tag for tag, _ in told.tags]), many=many)
        server = self._engine.remote.tiers[0].of(told.key) if self._engine.remote.tiers else None
        counters = ((fence_of(told.key), told.fence), *told.tags)
        if any(self._numbers.get((server, name), number) != number for name, number in counters):
            self._lack("unknown-dependency")
            return
        _, tags = self._found.setdefault(told.key, (told.fence, []))
        tags.extend((name, number) for name, number in told.tags if (server, name) not in self._numbers)
        self._numbers.update({(server, name): number for name, number in counters})
        if len(self._numbers) > MOST_GENERATIONS:
            self._lack(many)
            self._found = {}


def collecting(options: Options, engine: Engine, place: Place, proceed: Proceed) -> tuple[Place, Proceed]:
    """Have collected what a result is made from, if it is to be dropped with that."""
    if options.depends is None:
        return place, hidden(proceed)
    basis = Basis(engine)
    return place._replace(basis=basis), basis.around(proceed)


def joinable(engine: Engine) -> Hashable:
    """Return what the loads have in common that who begins now may wait for, whatever they turn out to be made from.

    One that began before a drop may be made from what was dropped. So each drop that is heard of begins another one;
    where none are heard of, the time does for which memory would be trusted.
    """
    fence, now = engine.fence, engine.host.clock.now()
    is_heard = not engine.remote.tiers or engine.backplane.current(now) + engine.trust_s > now
    return fence.epoch, None if is_heard else now // engine.trust_s if engine.trust_s else now


def lasting(place: Place, ttl_s: float, now: float) -> float:
    """Return how long a value of `place` lives, which is no longer than until what it was made from is tried anew."""
    until = float("inf") if place.basis is None else place.basis.until
    return min(ttl_s, max(until - now, _LEAST_S))


def scopes_of(place: Place) -> tuple[str, ...]:
    """Return all under which a value of `place` can be dropped, those of what it was made from included."""
    if place.basis is None:
        return place.scopes
    return tuple(dict.fromkeys((*place.scopes, *place.basis.scopes)))
