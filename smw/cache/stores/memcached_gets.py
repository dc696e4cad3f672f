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

__all__ = ["TOMBSTONE", "Many", "ReplyError", "answer", "found", "found_in", "number_of", "question"]

Many = dict[str, tuple[bytes, Any]]
"""Key → (value, cas token)."""
TOMBSTONE = b"\xa5x"
"""What stands where a value was dropped."""
_END = b"END\r\n"
_AFTER = b"\r\n" + _END
_DIGITS = 16
_REMEMBERED, _FEW = 512, 8
_VALUE = rb"VALUE ([^ ]+) \d+ (\d+) (\d+)\r\n"
_COUNTER = rb"VALUE ([^ ]+) 0 %d \d+\r\n([0-9a-f]{%d})\r\n" % (_DIGITS, _DIGITS)
_head = re.compile(_VALUE).match
_found = Found._make  # half the price of calling the class


class ReplyError(Exception):
    """What came is no reply to `gets`, such as an error; or there can be none."""


def question(keys: Sequence[str]) -> bytes:
    """Return the request for `keys` and their tokens.

    Raises:
        ReplyError: A key holds what would end it, and begin something else.
    """
    names = tuple(keys)
    return _asked(names) if len(names) <= _FEW else _asked.__wrapped__(names)


@lru_cache(maxsize=_REMEMBERED)  # hot keys are asked for again and again
def _asked(keys: tuple[str, ...]) -> bytes:
    line = f"gets {' '.join(keys)}"
    if _line(len(keys))(line) is None:
        raise ReplyError("not a key")
    return f"{line}\r\n".encode()


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


def found(reply: bytes, asked: bytes, keys: Sequence[str]) -> Found | int:
    """Return the numbers of counters and a value; of a reply that has not come to its end what `answer` returns.

    Nearly always everything is there, in the order asked for, and a counter is what we make of one: then one look tells
    all of it.

    Args:
        reply: What has come of it.
        asked: What `question` has returned.
        keys: Of counters and, last, of the value.

    Raises:
        ReplyError: It is none.
    """
    usual, numbers = _usual(len(keys) - 1)
    match = usual(reply)
    if match is not None:
        told = match.groups()
        begin = match.end()
        end = begin + int(told[-2])
        if reply[end:] == _AFTER and b" ".join(told[:-2:2]) == asked[5:-2]:
            blob = reply[begin:end]
            shown = numbers(unhexlify(b"".join(told[1:-2:2])))
            return _found((None if blob == TOMBSTONE else blob, shown, told[-1]))
    many = answer(reply)
    return many if isinstance(many, int) else found_in(many, keys)


@lru_cache
def _usual(counters: int) -> tuple[Callable[[bytes], re.Match[bytes] | None], Callable[[bytes], tuple[int, ...]]]:
    """Return what matches a reply up to the bytes of the value, and what makes numbers of those in it."""
    return re.compile(counters * _COUNTER + _VALUE).match, struct.Struct(f">{counters}Q").unpack


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
