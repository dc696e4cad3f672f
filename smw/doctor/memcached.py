"""Whether a memcached answers and takes what smw stores; speaks its text protocol, needs no client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw.doctor.network import STEP_S, Connection, Place, ask, hang_up, reach, why_not
from smw.doctor.report import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["findings"]

_ITEM_BYTES = 1_000_000
"""The largest value that smw stores in a memcached."""


async def findings(place: Place) -> AsyncIterator[Finding]:
    """Check resolve, connect, version and the size of items, each on top of the one before."""
    connection: Connection | None = None
    async for finding, opened in reach(place):
        yield finding
        connection = opened
    if connection is None:
        yield Finding(f"{place.name}.version", "not checked", f"{place.address}: no connection")
        return
    try:
        async for finding in _asked(place, connection):
            yield finding
    finally:
        hang_up(connection)


async def _asked(place: Place, connection: Connection) -> AsyncIterator[Finding]:
    name, where = f"{place.name}.version", f"correct host and port in {place.holder}"
    try:
        greeting = (await ask(connection, b"version\r\n", until=b"\n")).decode("latin-1").strip()
    except TimeoutError:
        seen = f"{place.address}: accepts connections, but gave no answer within {STEP_S:g} s"
        yield Finding(name, "fail", seen, f"is it stopped or overloaded? or {where}")
        return
    except OSError as error:
        yield Finding(name, "fail", f"{place.address}: {why_not(error)}", where)
        return
    if "unauthenticated" in greeting:
        fix = "start memcached without -Y and -S, reachable for this service alone"
        yield Finding(name, "fail", f"{place.address}: wants a login, which smw does not do", fix)
        return
    if not greeting.startswith("VERSION "):
        yield Finding(name, "fail", f"{place.address}: something answers there, but it is no memcached", where)
        return
    yield Finding(name, "ok", f"{place.address}: memcached {greeting.removeprefix('VERSION ')}")
    yield await _items(place, connection)


async def _items(place: Place, connection: Connection) -> Finding:
    name = f"{place.name}.items"
    try:
        answer = (await ask(connection, b"stats settings\r\n", until=b"END\r\n")).decode("latin-1")
    except OSError:
        answer = ""
    settings = dict(
        line.split(" ", 2)[1:] for line in answer.splitlines() if line.startswith("STAT ") and line.count(" ") > 1
    )
    size = settings.get("item_size_max", "")
    if not size.isdecimal():
        return Finding(name, "not checked", f"{place.address}: does not tell its settings (a proxy?)")
    if settings.get("cas_enabled") == "no":
        return Finding(name, "fail", f"{place.address}: started without CAS", "start memcached without -C")
    if int(size) < _ITEM_BYTES:
        seen = f"{place.address}: items up to {int(size):,} bytes, smw stores up to {_ITEM_BYTES:,}"
        return Finding(name, "warn", seen, "start memcached with -I 1m; larger values stay uncached there")
    return Finding(name, "ok", f"{place.address}: items up to {int(size):,} bytes")
