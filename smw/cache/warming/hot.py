"""How a key that is asked for often is written down for other processes, and who keeps the list; does no I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from smw.cache.naming.names import MARK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.call import Mode

__all__ = ["LONGEST", "Hearth", "Hot", "hot_of", "member_of"]

_DIGEST = 32
_MOST_TAGS = 100
LONGEST = MARK + (1 + _MOST_TAGS) * (1 + _DIGEST)
"""Characters of the longest member that is read."""
_MEMBER = re.compile(rf"[0-9a-f]{{{MARK}}}( [0-9a-f]{{{_DIGEST}}}){{1,{1 + _MOST_TAGS}}}")


@runtime_checkable
class Hearth(Protocol):
    """What a server offers beside `Store` when it remembers which keys processes ask for most."""

    async def tell_hot(
        self, name: str, counts: Sequence[tuple[str, float]], most: int, *, mode: Mode, timeout_s: float
    ) -> None:
        """Add to how often members are asked for, older counts fading, and keep the hottest.

        Args:
            name: Of the list.
            counts: Members, at most a few hundred, and how often each was asked for.
            most: How many the list keeps.
            mode: The caller's mode.
            timeout_s: How long this may take.
        """
        ...

    async def hottest(
        self, name: str, most: int, longest: int, *, mode: Mode, timeout_s: float
    ) -> list[tuple[str, float]]:
        """Return the members that are asked for most, with how much, comparable between servers.

        Args:
            name: Of the list.
            most: How many.
            longest: A member with more characters than that is left out.
            mode: The caller's mode.
            timeout_s: How long this may take.
        """
        ...

    async def sizes(self, keys: Sequence[str], *, mode: Mode, timeout_s: float) -> list[int]:
        """Return how many bytes are stored under each key, 0 where there are none."""
        ...


class Hot(NamedTuple):
    """A key that is asked for often.

    Attributes:
        mark: Of its function.
        text: Full key.
        tags: Names of the counters of its tags, that of everything first.
    """

    mark: str
    text: str
    tags: tuple[str, ...]


def member_of(mark: str, text: str, tags: Sequence[str]) -> str:
    """Return how a key is written down: nothing but digests, the namespace is that of the list."""
    return " ".join([mark, text[-_DIGEST:], *[tag[-_DIGEST:] for tag in tags[1:]]])


def hot_of(member: str, prefix: str) -> Hot | None:
    """Return the key that a member stands for, or None where it is none: anybody may have written it.

    Args:
        member: As it was read.
        prefix: What the names of the namespace begin with; nothing outside of it can be named.
    """
    if not _MEMBER.fullmatch(member):
        return None
    mark, key, *tags = member.split(" ")
    return Hot(mark, prefix + key, (f"{prefix}t:*", *[f"{prefix}t:{tag}" for tag in tags]))
