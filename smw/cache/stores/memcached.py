"""The third level: values and counters in one memcached; aiomcache awaits, pymemcache blocks.

A dropped key leaves a short tombstone. A value is stored with ``add`` where nothing was read before it was loaded, with
``cas`` where something was, so that one loaded before the drop fails. Where no Redis keeps the counters they are kept
here, as random numbers, which an evicted one cannot repeat. Nothing compares them when a value is stored: readers do.
"""

from __future__ import annotations

import hashlib
import importlib.util
from typing import TYPE_CHECKING, Any

from smw.cache.ports import StoreFailedError
from smw.cache.stores.memcached_clients import Awaiting, Blocking
from smw.cache.stores.memcached_gets import TOMBSTONE, number_of
from smw.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.clock import Clock, Entropy
    from smw.cache.ports import Found
    from smw.cache.stores.memcached_gets import Many

__all__ = ["MemcachedStore", "spread"]

MOST_BYTES = 1_000_000
"""Just below what a memcached accepts in its default configuration."""
TOMBSTONE_S = 60
_DATE_FROM_S = 30 * 86_400  # memcached reads longer times as a date
_LAST_DATE = 2**31 - 1  # in January 2038; memcached reads a later one as long past
_COUNTER_S = 86_400


class MemcachedStore:
    """Values on one memcached server.

    Args:
        server: ``host:port``.
        timeout_s: Most that one operation of a blocking caller may take.
        clock: For times to live beyond 30 days.
        entropy: For counters.

    Raises:
        MissingExtra: aiomcache or pymemcache is not installed.
    """

    is_atomic = False

    def __init__(self, server: str, *, timeout_s: float, clock: Clock, entropy: Entropy) -> None:
        for package in ("aiomcache", "pymemcache"):  # what is missing shows now, not with the first awaited call
            if importlib.util.find_spec(package) is None:
                raise MissingExtra("cache setting 'l3_servers'", package=package, extra="memcached")
        self.name = f"memcached {server}"
        self._clock = clock
        self._entropy = entropy
        self._blocking = Blocking(server, timeout_s)
        self._awaiting = Awaiting(server)

    def _life(self, ttl_s: float) -> int:
        whole = max(1, int(ttl_s))
        return whole if whole <= _DATE_FROM_S else min(int(self._clock.wall()) + whole, _LAST_DATE)

    async def _ask(self, mode: Mode, timeout_s: float, command: str, *args: Any) -> Any:
        if mode == "sync":
            return self._blocking.ask(command, *args)
        return await self._awaiting.ask(timeout_s, command, *args)

    async def read(self, key: str, counters: Sequence[str], *, mode: Mode, timeout_s: float) -> Found:
        """Return value and counters with one ``gets``."""
        keys = (*counters, key)  # the value last: one that carries what the counters showed before was current then
        if mode == "sync":
            return self._blocking.ask("found", keys)  # type: ignore[no-any-return]
        return await self._awaiting.ask(timeout_s, "found", keys)  # type: ignore[no-any-return]

    async def open(self, counters: Sequence[str], ttl_s: float, *, mode: Mode, timeout_s: float) -> tuple[int, ...]:
        """Return the counters, adding a random number where there is none."""
        life = self._life(max(ttl_s, _COUNTER_S))
        for name in counters:
            await self._ask(mode, timeout_s, "add", name, self._number(), life)
        found: Many = await self._ask(mode, timeout_s, "gets_many", counters)
        foreign = [name for name in counters if name in found and number_of(found[name][0]) is None]
        for name in foreign:
            await self._ask(mode, timeout_s, "set", name, self._number(), life)
        if foreign:
            found = await self._ask(mode, timeout_s, "gets_many", counters)
        numbers = [number_of(found[name][0]) for name in counters if name in found]
        if len(numbers) < len(counters) or None in numbers:
            raise StoreFailedError("full", counts=False)
        return tuple([number or 0 for number in numbers])

    async def write(
        self,
        key: str,
        blob: bytes,
        ttl_s: float,
        *,
        counters: Sequence[str],  # noqa: ARG002 - `blob` carries what they showed, and readers compare
        found: Found,
        mode: Mode,
        timeout_s: float,
    ) -> bool:
        """Store `blob` where nothing has changed the key since `found`."""
        if len(blob) > MOST_BYTES:
            raise StoreFailedError("too-large", counts=False)
        life = self._life(ttl_s)
        if found.token is None:
            return bool(await self._ask(mode, timeout_s, "add", key, blob, life))
        return bool(await self._ask(mode, timeout_s, "cas", key, blob, life, found.token))

    async def drop(self, counters: Sequence[str], keys: Sequence[str], *, mode: Mode, timeout_s: float) -> None:
        """Put new numbers and tombstones in place, each acknowledged."""
        life = self._life(_COUNTER_S)
        for name in counters:
            await self._ask(mode, timeout_s, "set", name, self._number(), life)
        for key in keys:
            await self._ask(mode, timeout_s, "set", key, TOMBSTONE, TOMBSTONE_S)

    def _number(self) -> bytes:
        return self._entropy.token_bytes(8).hex().encode()

    def figures(self) -> dict[str, Any]:
        """Return what ``stats`` says of the whole server."""
        said = self._blocking.ask("stats")
        known = {
            "entries": "curr_items", "bytes": "bytes", "hits": "get_hits", "misses": "get_misses",
            "evictions": "evictions",
        }  # fmt: skip
        figures: dict[str, Any] = {ours: int(said[theirs]) for ours, theirs in known.items() if theirs in said}
        return figures | {"note": f"memcached {said.get('version', '?')}"}

    def probe(self) -> None:
        """Ask for the version on a blocking connection.

        Raises:
            StoreFailedError: No answer.
        """
        self._blocking.ask("version")

    def close(self) -> None:
        """Close the blocking connections, and have those of event loops closed there; idempotent."""
        self._blocking.close()
        self._awaiting.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, then as `close`; idempotent."""
        await self._awaiting.aclose()
        self.close()


def spread(servers: Sequence[str]) -> Callable[[str], str]:
    """Return the function that picks a key's server, whatever their order; another server moves only what it gets.

    Rendezvous hashing as pymemcache has it, on a hash that takes a microsecond for three servers instead of forty.
    """
    begun = [(hashlib.blake2b(server.encode(), digest_size=8, person=b"smw-spread"), server) for server in servers]

    def pick(key: str) -> str:
        text, most, picked = key.encode(), b"", ""
        for state, server in begun:
            weight = state.copy()
            weight.update(text)
            if (drawn := weight.digest()) > most:
                most, picked = drawn, server
        return picked

    return pick
