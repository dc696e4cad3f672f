"""Connections that find their server whenever they are made: the Sentinels' master, or a cluster's node."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import weakref
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
import redis.exceptions as known
from redis.asyncio import sentinel as awaiting_sentinel
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from smw._kernel.clock import SystemClock
from smw._redis.whereabouts import whereabouts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from smw._redis.address import Address
    from smw._redis.whereabouts import Whereabouts

__all__ = ["AwaitingMaster", "BlockingMaster", "awaiting_connections", "blocking_connections"]

_LEAST_S = 0.005


class MasterNameError(known.ConnectionError):
    """The Sentinels answer, and none of them knows a master of that name."""

    kind = "master-name"


def _state(masters: Mapping[str, Mapping[str, Any]], name: str) -> tuple[str, int] | None:
    """Return the address of a master that the asked Sentinel believes to be well."""
    state = masters.get(name)
    if state is None or not state["is_master"] or state["is_sdown"] or state["is_odown"]:
        return None
    return str(state["ip"]), int(state["port"])


class _Master:
    """What both resolvers have in common; the attributes are those that redis-py's connections ask for."""

    is_master = True
    check_connection = False

    def __init__(self, name: str, sentinels: Sequence[Any], place: Whereabouts) -> None:
        self.service_name = name
        self.place = place
        self._sentinels = list(sentinels)

    def _answered(self, sentinel: Any, masters: Mapping[str, Any]) -> tuple[str, int] | None:
        """Return the master's address if this Sentinel has one; it is then asked first the next time."""
        address = _state(masters, self.service_name)
        if address is not None:
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            self.place.saw(address)
        return address

    def _failed(self, sentinel: Any) -> None:
        """Ask this one last from now on."""
        self._sentinels.remove(sentinel)
        self._sentinels.append(sentinel)

    def _lack(self, names: set[str] | None, errors: list[Exception]) -> Exception:
        """Return what tells most of why there is no master."""
        if names is not None and self.service_name not in names:
            others = ", ".join(sorted(names)) or "none"
            return MasterNameError(f"the Sentinels know no master {self.service_name!r}; they know: {others}")
        telling = [error for error in errors if not isinstance(error, known.TimeoutError)] or errors
        if names is None and telling:
            return telling[0]
        return known.ConnectionError(f"the Sentinels have no master {self.service_name!r} that is well")


class BlockingMaster(_Master):
    """Asks for the connections of blocking callers.

    Args:
        name: What the Sentinels call the master.
        sentinels: Clients of theirs.
        place: Shared by all that look for the same master.
        timeout_s: Most that asking may take in all.
    """

    def __init__(self, name: str, sentinels: Sequence[redis.Redis], place: Whereabouts, *, timeout_s: float) -> None:
        super().__init__(name, sentinels, place)
        self._timeout_s = timeout_s
        self._pool: Any = None

    def serve(self, pool: Any) -> None:
        """Close the connections of `pool` whenever the master is another one."""
        self._pool = weakref.ref(pool)
        self.place.listen(self._moved)

    def _moved(self) -> None:
        pool = self._pool()
        if pool is not None:
            pool.disconnect()

    def get_master_address(self) -> tuple[str, int]:
        """Return where the master is.

        Raises:
            ConnectionError: No Sentinel that answers in time knows one that is well.
        """
        until = SystemClock.now() + self._timeout_s
        names: set[str] | None = None
        errors: list[Exception] = []
        for sentinel in tuple(self._sentinels):
            if until - SystemClock.now() < _LEAST_S:
                break
            try:
                masters = sentinel.sentinel_masters()
            except (known.RedisError, OSError) as error:
                self._failed(sentinel)
                errors.append(error)
                continue
            names = (names or set()) | set(masters)
            if (address := self._answered(sentinel, masters)) is not None:
                return address
        raise self._lack(names, errors)


class AwaitingMaster(_Master):
    """Asks for the connections of coroutines; time-outs are the callers'.

    Args:
        name: What the Sentinels call the master.
        sentinels: Clients of theirs.
        place: Shared by all that look for the same master.
    """

    def __init__(self, name: str, sentinels: Sequence[redis.asyncio.Redis], place: Whereabouts) -> None:
        super().__init__(name, sentinels, place)
        self._pool: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def serve(self, pool: Any) -> None:
        """Close the connections of `pool` whenever the master is another one."""
        self._pool = weakref.ref(pool)
        self.place.listen(self._moved)

    def _moved(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its connections with it
                self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        pool = self._pool()
        if pool is not None:
            task = asyncio.get_running_loop().create_task(pool.disconnect())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def get_master_address(self) -> tuple[str, int]:
        """Return where the master is.

        Raises:
            ConnectionError: No Sentinel that answers knows one that is well.
        """
        self._loop = asyncio.get_running_loop()
        names: set[str] | None = None
        errors: list[Exception] = []
        for sentinel in tuple(self._sentinels):
            try:
                masters = await sentinel.sentinel_masters()
            except (known.RedisError, OSError) as error:
                self._failed(sentinel)
                errors.append(error)
                continue
            names = (names or set()) | set(masters)
            if (address := self._answered(sentinel, masters)) is not None:
                return address
        raise self._lack(names, errors)


class BlockingNode:
    """Any node of a cluster, another one for each connection."""

    is_master = False
    check_connection = False
    service_name = "cluster"

    def __init__(self, hosts: Sequence[tuple[str, int]]) -> None:
        self._hosts = hosts
        self._turns = itertools.count()

    def serve(self, pool: Any) -> None:
        """Do nothing: a node is as good as another."""

    def rotate_slaves(self) -> Iterator[tuple[str, int]]:
        """Yield the nodes to try, in turn."""
        first = next(self._turns)
        for number in range(len(self._hosts)):
            yield self._hosts[(first + number) % len(self._hosts)]


class AwaitingNode(BlockingNode):
    """The same for coroutines."""

    async def rotate_slaves(self) -> AsyncIterator[tuple[str, int]]:  # type: ignore[override]
        """Yield the nodes to try, in turn."""
        for host in super().rotate_slaves():
            yield host


def blocking_connections(
    address: Address, sentinels: Sequence[redis.Redis], url: str, *, timeout_s: float
) -> tuple[type[Any], Any]:
    """Return the class of connections that find their server by themselves, and what tells them where it is."""
    plain = SentinelManagedSSLConnection if address.scheme == "rediss" else SentinelManagedConnection
    if sentinels:
        return plain, BlockingMaster(address.service, sentinels, whereabouts(url), timeout_s=timeout_s)
    return plain, BlockingNode(address.hosts)


def awaiting_connections(address: Address, sentinels: Sequence[redis.asyncio.Redis], url: str) -> tuple[type[Any], Any]:
    """Return the same for coroutines."""
    tls = address.scheme == "rediss"
    plain = awaiting_sentinel.SentinelManagedSSLConnection if tls else awaiting_sentinel.SentinelManagedConnection
    if sentinels:
        return plain, AwaitingMaster(address.service, sentinels, whereabouts(url))
    return plain, AwaitingNode(address.hosts)
