"""Asks memcached for many keys at once and reads its reply, of which the clients make slow work; knows no connection.

pymemcache checks each key at length and copies what is left of a reply with each line, aiomcache awaits each line: with
three counters beside it, a value costs them half as much again.
"""

from __future__ import annotations

import re
import struct
from binascii import unhexlify
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from smw.cache.ports import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smw.cache.ports import Counters

__all__ = ["TOMBSTONE", "Many", "Question", "ReplyError", "answer", "found_in", "number_of", "question"]

Many = dict[str, tuple[bytes, Any]]
"""Key → (value, cas token)."""
TOMBSTONE = b"\xa5x"
"""What stands where a value was dropped."""
_END = b"END\r\n"
_AFTER = b"\r\n" + _END
_DIGITS = 16
_REMEMBERED, _FEW = 512, 8
_KEY, _SIZE = rb"VALUE ([^ ]+) ", rb"\d+ (\d+) (\d+)\r\n"
_COUNTER = rb"VALUE ([^ ]+) 0 %d \d+\r\n([0-9a-f]{%d})\r\n" % (_DIGITS, _DIGITS)
_head, _rest_of_head = re.compile(_KEY + _SIZE).match, re.compile(_SIZE).match
_found = Found._make  # half the price of calling the class
_UNSEEN = b"\n"
"""How no reply begins."""


class ReplyError(Exception):
    """What came is no reply to `gets`, such as an error; or there can be none."""


def question(keys: Sequence[str]) -> Question:
    """Return what asks for `keys` and their tokens.

    Raises:
        ReplyError: A key holds what would end it, and begin something else.
    """
    return _question(tuple(keys)) if len(keys) <= _FEW else Question(tuple(keys))


class Question:
    """Asks for some keys at once, and knows how the reply to it has last begun.

    Attributes:
        request: What is sent.

    Args:
        keys: Of counters and, last, of a value.

    Raises:
        ReplyError: A key holds what would end it, and begin something else.
    """

    __slots__ = ("_keys", "_shown", "request")

    def __init__(self, keys: tuple[str, ...]) -> None:
        line = f"gets {' '.join(keys)}"
        if _line(len(keys))(line) is None:
            raise ReplyError("not a key")
        self._keys = keys
        self._shown: tuple[bytes, Counters] = _UNSEEN, ()
        self.request = f"{line}\r\n".encode()

    def found(self, reply: bytes) -> Found | int:
        """Return the numbers of counters and a value; of a reply without its end what `answer` returns.

        Nearly always the counters are as they were, byte for byte, and the value stands behind them.

        Args:
            reply: What has come of it.

        Raises:
            ReplyError: It is none.
        """
        shown = self._shown
        if not reply.startswith(shown[0]):
            shown = self._look(reply)
        begun, numbers = shown
        head = None if begun is _UNSEEN else _rest_of_head(reply, len(begun))
        if head is not None:
            size, token = head.groups()
            begin = head.end()
            end = begin + int(size)
            if reply[end:] == _AFTER:
                blob = reply[begin:end]
                return _found((None if blob == TOMBSTONE else blob, numbers, token))
        many = answer(reply)
        return many if isinstance(many, int) else found_in(many, self._keys)

    def _look(self, reply: bytes) -> tuple[bytes, Counters]:
        """Return how a reply begins, up to the size of the value, and the numbers that it shows.

        One look tells that where all counters are there, in the order asked for, and each is what we make of one.
        """
        usual, numbers = _usual(len(self._keys) - 1)
        match = usual(reply)
        told = () if match is None else match.groups()
        if match is None or b" ".join(told[::2]) != self.request[5:-2]:
            return _UNSEEN, ()
        self._shown = shown = match[0], numbers(unhexlify(b"".join(told[1::2])))
        return shown


_question = lru_cache(maxsize=_REMEMBERED)(Question)  # hot keys are asked for again and again


@lru_cache
def _line(keys: int) -> Callable[[str], object]:
    """Return what matches a request for so many keys."""
    return re.compile(f"gets(?: [!-~]+){{{keys}}}").fullmatch


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


@lru_cache
def _usual(counters: int) -> tuple[Callable[[bytes], re.Match[bytes] | None], Callable[[bytes], tuple[int, ...]]]:
    """Return what matches a reply up to the size of the value, and what makes numbers of those in it."""
    return re.compile(counters * _COUNTER + _KEY).match, struct.Struct(f">{counters}Q").unpack


def found_in(many: Many, keys: Sequence[str]) -> Found:
    """Return the numbers of counters and, under the last key, a value."""
    *counters, key = keys
    blob, token = many.get(key, (None, None))
    numbers = tuple([number_of(many[name][0]) if name in many else None for name in counters])
    return Found(None if blob == TOMBSTONE else blob, numbers, token)


def number_of(raw: bytes) -> int | None:
    """Return the number of a counter; None where somebody else has put something else in its place."""
    if len(raw) > _DIGITS or not raw.isalnum():
        return None
    try:
        return int(raw, 16)
    except ValueError:
        return None
