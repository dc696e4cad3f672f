"""How the processes of one namespace tell each other of drops: names on the server, who speaks, what a message says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from smw._kernel.process import after_fork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.clock import Entropy

__all__ = ["LEASE_END", "Told", "Wire"]

LEASE_END = ":l"
"""What the lease of a key is called after the key."""
_MOST_NAMED = 1000
_TAG = re.compile(r"^\{\d+\}")


class Told(NamedTuple):
    """One message.

    Attributes:
        number: The server's.
        part: Which of several servers has sent it; empty where there is one.
        scopes: What was dropped; none where it was this process itself.
    """

    number: int
    part: str
    scopes: tuple[str, ...]


class Wire:
    """Names and texts of the messages of one namespace.

    A message is a number, who has dropped, and what: texts without spaces, with one space between them. Of several
    servers that share the keys each numbers its own messages, and is named behind who has dropped.

    Args:
        everything: The tag that every value carries.
        entropy: Draws the name of this process.

    Attributes:
        everything: As given.
        number: Key of the newest message's number.
        guard: Key under which the server's reign is remembered.
        sender: The name of this process; another one in a forked child.
    """

    def __init__(self, everything: str, entropy: Entropy) -> None:
        self.everything = everything
        own = everything.removesuffix("t:*")
        self.number, self.guard, self._channel = own + "b:n", own + "b:g", own + "b"
        self._entropy = entropy
        self._draw()
        after_fork(self._draw)

    def _draw(self) -> None:
        self.sender = self._entropy.token_bytes(8).hex()

    def channel(self, database: int | str) -> str:
        """Return the channel of drops; channels are common to a server's databases, which number for themselves."""
        return f"{self._channel}:{database}"

    @property
    def mail(self) -> str:
        """What the channel of one process begins with; its name follows."""
        return self._channel + ":m:"

    def text(self, scopes: Sequence[str], part: str = "") -> str:
        """Return who drops what; beyond a thousand names it is everything, which costs others memory and no value."""
        named = scopes if len(scopes) <= _MOST_NAMED else (self.everything,)
        return " ".join((f"{self.sender}@{part}" if part else self.sender, *named))

    def alarm(self, part: str = "") -> str:
        """Return what a server tells that drops everything by itself."""
        return f"-@{part} {self.everything}" if part else f"- {self.everything}"

    def read(self, message: bytes) -> Told:
        """Return what a message says.

        Raises:
            ValueError: It is none.
        """
        number, who, *scopes = message.decode().split(" ")
        sender, _, part = who.partition("@")
        return Told(int(number), part, () if sender == self.sender else tuple(scopes))

    @staticmethod
    def key_of(lease: str) -> str:
        """Return the key of which a server names the lease."""
        return _TAG.sub("", lease.removesuffix(LEASE_END))
