"""Redis connections for every part: one server, TLS, Sentinel, cluster; knows neither caches nor streams."""

from __future__ import annotations

from smw._redis.address import Address, parse, shown
from smw._redis.clients import awaiting, blocking
from smw._redis.failures import cause_of, kind_of_failure

__all__ = ["Address", "awaiting", "blocking", "cause_of", "kind_of_failure", "parse", "shown"]
