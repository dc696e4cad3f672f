"""Redis connections for every part: one server, TLS, Sentinel, cluster; knows neither caches nor streams."""

from __future__ import annotations

from smw._redis.address import Address, form, parse, shown
from smw._redis.clients import awaiting, blocking
from smw._redis.endings import hang_up
from smw._redis.failures import kind_of_failure, remedy_for, strictness

__all__ = [
    "Address",
    "awaiting",
    "blocking",
    "form",
    "hang_up",
    "kind_of_failure",
    "parse",
    "remedy_for",
    "shown",
    "strictness",
]
