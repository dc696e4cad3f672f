"""What a look at servers is told and shows: tiers, an answer that came ahead, what each level had; asks nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from smw._kernel.guard import Budget
    from smw.cache.levels.level import Level
    from smw.cache.ports import Found, Versions
    from smw.cache.values.envelope import Letter

__all__ = ["Ahead", "Sight", "Tier"]


class Tier(NamedTuple):
    """Servers that share keys between them.

    Each server judges its own keys: dropping a tag is told to all of them.

    Attributes:
        name: ``l2`` or ``l3``.
        servers: All of them.
        of: Returns the one that holds a key.
    """

    name: str
    servers: tuple[Level, ...]
    of: Callable[[str], Level]


class Ahead(NamedTuple):
    """What the server that keeps the counters has shown of one key among many.

    Attributes:
        found: Its answer; None where it did not answer.
        asked: When it was asked.
        epoch: The fence's epoch before.
        budget: What may still be spent.
        is_sent: Another process has sent the value, perhaps before the counters were shown.
        judged: What `Remote.judged` has said of the answer; None where it was not asked.
    """

    found: Found | None
    asked: float
    epoch: int
    budget: Budget
    is_sent: bool = False
    judged: tuple[Letter | None, float] | None = None


class Sight:
    """What the remote levels showed of one key.

    Attributes:
        letter: A value that stands, or None.
        level: Where it was found.
        stale: (level, value): one that stands but has expired, which may stand in for a load that fails; or None.
        versions: What stood when looking, None where the level that keeps the counters did not answer.
        began: When looking began.
        asked: When the question was asked to which `versions` is the newest answer.
        seen: What each level returned, for writing to it.
        missed: Levels that answered and had no valid value.
    """

    __slots__ = ("asked", "began", "letter", "level", "missed", "seen", "stale", "versions")

    def __init__(self, now: float) -> None:
        self.began = self.asked = now
        self.letter: Letter | None = None
        self.level = ""
        self.stale: tuple[str, Letter] | None = None
        self.versions: Versions | None = None
        self.seen: dict[str, Found] = {}
        self.missed: list[str] = []
