"""Asks memcached for many keys at once and reads its reply, of which the clients make slow work; knows no connection.

pymemcache checks each key at length and copies what is left of a reply with each line, aiomcache awaits each line: with
three counters beside it, a value costs them half as much again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Many", "ReplyError", "answer", "question"]

Many = dict[str, tuple[bytes, Any]]
"""Key → (value, cas token)."""
_END = b"END\r\n"
_head = re.compile(rb"VALUE (\S+) \d+ (\d+) (\d+)\r\n").match


class ReplyError(Exception):
    """What came is no reply to `gets`, such as an error; or there can be none."""


def question(keys: Sequence[str]) -> bytes:
    """Return the request for `keys` and their tokens.

    Raises:
        ReplyError: A key holds what would end it, and begin something else.
    """
    line = f"gets {' '.join(keys)}"
    if line.count(" ") != len(keys) or not line.isprintable():
        raise ReplyError("not a key")
    return f"{line}\r\n".encode()


def answer(reply: bytes) -> Many | int:
    """Return what a reply holds; where it has not come to its end yet, how many bytes it has at least.

    Raises:
        ReplyError: It is none.
    """
    found: Many = {}
    begin = 0
    while (head := _head(reply, begin)) is not None:
        key, size, token = head.groups()
        begin = head.end()
        end = begin + int(size)
        found[key.decode()] = reply[begin:end], token
        begin = end + 2
    rest = reply[begin:]
    if rest == _END:
        return found
    if b"\r\n" in rest:
        raise ReplyError(rest[:100].decode("ascii", "replace"))
    return max(begin + len(_END), len(reply) + 1)
