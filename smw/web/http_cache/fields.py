"""Reads the header fields that caching depends on: directives, dates, entity tags; decides nothing about storing."""

from __future__ import annotations

import calendar
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Directives", "delta_seconds", "directives", "entity_tags", "http_date", "names"]

_SATURATED = 2**31
# token, optionally = token or quoted string (RFC 9110, 5.6)
_DIRECTIVE = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?\s*(?:,|$)')
_TAG = re.compile(r'\s*(W/)?"([^"]*)"\s*(?:,|$)')
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_CLOCK = r"(\d\d):(\d\d):(\d\d)"
_IMF = re.compile(rf"\w{{3}}, (\d\d) (\w{{3}}) (\d{{4}}) {_CLOCK} GMT")
_RFC850 = re.compile(rf"\w{{6,9}}, (\d\d)-(\w{{3}})-(\d\d) {_CLOCK} GMT")
_ASCTIME = re.compile(rf"\w{{3}} (\w{{3}}) ([ \d]\d) {_CLOCK} (\d{{4}})")

Directives = dict[str, list[str]]


def directives(value: str | None) -> Directives | None:
    """Return the directives of a Cache-Control value, names lower-case, each with every argument it came with.

    A directive without argument has the argument "". None means that the value cannot be read as HTTP wants it
    written; a careful cache then keeps nothing.
    """
    found: Directives = {}
    if not value:
        return found
    position = 0
    text = value.strip().strip(",")
    while position < len(text):
        if text[position] in ", \t":
            position += 1
            continue
        match = _DIRECTIVE.match(text, position)
        if match is None:
            return None
        quoted, bare = match.group(2), match.group(3)
        found.setdefault(match.group(1).lower(), []).append((quoted if quoted is not None else bare) or "")
        position = match.end()
    return found


def delta_seconds(text: str) -> int | None:
    """Return a non-negative number of seconds, at most 2**31; None for anything that is not one."""
    if not text.isascii() or not text.isdecimal():
        return None
    return _SATURATED if len(text) > 10 else min(int(text), _SATURATED)


def http_date(text: str | None) -> float | None:
    """Return seconds since the epoch for any of the three date forms of HTTP; None for anything else."""
    if text is None:
        return None
    text = text.strip()
    if match := _IMF.fullmatch(text):
        day, month, year, *clock = match.groups()
    elif match := _RFC850.fullmatch(text):
        day, month, short, *clock = match.groups()
        # A two-digit year has to be resolved without asking the clock here: as POSIX does.
        year = f"{'19' if short >= '69' else '20'}{short}"
    elif match := _ASCTIME.fullmatch(text):
        month, day, *clock, year = match.groups()
    else:
        return None
    number = _MONTHS.get(month.lower())
    hour, minute, second = (int(part) for part in clock)
    if number is None or hour > 23 or minute > 59 or second > 60 or not 1 <= int(day) <= 31:
        return None
    return float(calendar.timegm((int(year), number, int(day), hour, minute, second)))


def entity_tags(value: str) -> Iterator[str]:
    """Yield the opaque part of each entity tag in a list, weak or strong; stops at the first malformed one."""
    position = 0
    while position < len(value):
        match = _TAG.match(value, position)
        if match is None:
            return
        yield match.group(2)
        position = match.end()


def names(value: str) -> tuple[str, ...]:
    """Return the field names of a list such as Vary, lower-case, sorted, without repetition."""
    return tuple(sorted({name.strip().lower() for name in value.split(",") if name.strip()}))
