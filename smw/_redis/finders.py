"""Finds out where a server is: the master that Sentinels know, or any node of a cluster; makes no connection to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import redis.exceptions as known

from smw._kernel.clock import SystemClock
from smw._redis.whereabouts import whereabouts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis
    import redis.asyncio

    from smw._redis.address import Address
    from smw._redis.whereabouts import Whereabouts

__all__ = ["awaiting_finder", "blocking_finder"]

_LEAST_S = 0.005
_AGAIN_S = 1.0
"""How long a connection is used without asking whether its master still is one: an ordered fail-over leaves the old
one as it was for ten seconds, and its connections with it."""
_SAME_S = 0.05
"""How long an answer holds for the other connections that are made at the same moment."""
Place = tuple[str, int]


class MasterNameError(known.ConnectionError):
    """The Sentinels answer, and none of them knows a master of that name."""

    kind = "master-name"


class NoSentinelError(known.ConnectionError):
    """What was named as a Sentinel is none."""

    kind = "other-server"


class _Inquiry:
    """What the Sentinels have said so far of one master."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._names: set[str] | None = None
        self._errors: list[Exception] = []
        self._doubted: Place | None = None

    def failed(self, error: Exception) -> None:
        """Note that one did not answer."""
        error.__cause__ = error.__cause__ or error.__context__  # which is lost when it is raised again elsewhere
        self._errors.append(error)

    def place(self, masters: Mapping[str, Mapping[str, Any]]) -> Place | None:
        """Return where the master is, if the Sentinel that said this believes it to be well."""
        self._names = (self._names or set()) | set(masters)
        state = masters.get(self._name)
        if state is None or not state["is_master"]:
            return None
        place = str(state["ip"]), int(state["port"])
        if state["is_sdown"] or state["is_odown"]:
            self._doubted = place
            return None
        return place

    def rest(self) -> Place:
        """Return the master that none of them believes to be well: just after a fail-over it is, and they do not know.

        Raises:
            Exception: There is none; it tells most of why.
        """
        if self._doubted is not None:
            return self._doubted
        raise self._lack()

    def _lack(self) -> Exception:
        names, errors = self._names, self._errors
        if names is not None and self._name not in names:
            others = ", ".join(sorted(names)) or "none"
            return MasterNameError(f"the Sentinels know no master {self._name!r}; they know: {others}")
        if names is None and any(str(error).lower().startswith("unknown command") for error in errors):
            return NoSentinelError("a Redis answers there that is no Sentinel")
        telling = [error for error in errors if not isinstance(error, known.TimeoutError)] or errors
        if names is None and telling:
            return telling[0]
        return known.ConnectionError(f"the Sentinels have no master {self._name!r}")


class _Master(ABC):
    """Where one master is.

    Args:
        name: What the Sentinels call it.
        sentinels: Clients of theirs.
        seen: Shared by all that look for the same master.
    """

    is_master = True

    def __init__(self, name: str, sentinels: Sequence[Any], seen: Whereabouts) -> None:
        self._name = name
        self._sentinels = tuple(sentinels)
        self._seen = seen
        self._pool: Any = None
        self._due = self._settled_at = 0.0
        self._place: Place | None = None

    def serve(self, pool: Any) -> None:
        """Close the connections of `pool` whenever the master is another one."""
        self._pool = weakref.ref(pool)
        self._seen.listen(self._moved)

    @abstractmethod
    def _moved(self) -> None:
        """Close the connections, from whichever thread has heard of it."""

    def due(self) -> bool:
        """Tell one caller in each second that it is time to ask again."""
        now = SystemClock.now()
        if now < self._due:
            return False
        self._due = now + _AGAIN_S
        return True

    def clients(self) -> tuple[Any, ...]:
        """Return what has connections of its own."""
        return self._sentinels

    def _just_settled(self) -> tuple[Place, ...]:
        place = self._place
        return (place,) if place is not None and SystemClock.now() - self._settled_at < _SAME_S else ()

    def _settled(self, place: Place) -> tuple[Place, ...]:
        self._place, self._settled_at = place, SystemClock.now()
        self._due = self._settled_at + _AGAIN_S
        self._seen.saw(place)
        return (place,)

    def _prefer(self, sentinel: Any) -> None:
        self._sentinels = (sentinel, *(other for other in self._sentinels if other is not sentinel))

    def _put_last(self, sentinel: Any) -> None:
        self._sentinels = (*(other for other in self._sentinels if other is not sentinel), sentinel)


class BlockingMaster(_Master):
    """For the connections of blocking callers; `timeout_s` bounds the whole inquiry."""

    def __init__(self, name: str, sentinels: Sequence[redis.Redis], seen: Whereabouts, *, timeout_s: float) -> None:
        super().__init__(name, sentinels, seen)
        self._timeout_s = timeout_s

    def _moved(self) -> None:
        pool = self._pool()
        if pool is not None:
            pool.disconnect()

    def places(self) -> tuple[Place, ...]:
        """Return where the master is.

        Raises:
            ConnectionError: No Sentinel that answers in time knows one that is well.
        """
        if settled := self._just_settled():
            return settled
        until, inquiry = SystemClock.now() + self._timeout_s, _Inquiry(self._name)
        for sentinel in self._sentinels:
            if until - SystemClock.now() < _LEAST_S:
                break
            try:
                place = inquiry.place(sentinel.sentinel_masters())
            except (known.RedisError, OSError) as error:
                self._put_last(sentinel)
                inquiry.failed(error)
                continue
            if place is not None:
                self._prefer(sentinel)
                return self._settled(place)
        return self._settled(inquiry.rest())


class AwaitingMaster(_Master):
    """For the connections of coroutines; time-outs are the callers' and the Sentinels' own."""

    def __init__(self, name: str, sentinels: Sequence[redis.asyncio.Redis], seen: Whereabouts) -> None:
        super().__init__(name, sentinels, seen)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: set[asyncio.Task[None]] = set()

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

    async def places(self) -> tuple[Place, ...]:
        """Return where the master is.

        Raises:
            ConnectionError: No Sentinel that answers knows one that is well.
        """
        if settled := self._just_settled():
            return settled
        self._loop, inquiry = asyncio.get_running_loop(), _Inquiry(self._name)
        for sentinel in self._sentinels:
            try:
                place = inquiry.place(await sentinel.sentinel_masters())
            except (known.RedisError, OSError) as error:
                self._put_last(sentinel)
                inquiry.failed(error)
                continue
            if place is not None:
                self._prefer(sentinel)
                return self._settled(place)
        return self._settled(inquiry.rest())


class BlockingNodes:
    """The nodes of a cluster, of which any will do; each connection begins with another one."""

    is_master = False

    def __init__(self, hosts: Sequence[Place]) -> None:
        self._hosts = hosts
        self._turns = itertools.count()

    def serve(self, pool: Any) -> None:
        """Do nothing: a node is as good as another."""

    def due(self) -> bool:
        """Tell nobody: none of them becomes less of a node."""
        return False

    def clients(self) -> tuple[Any, ...]:
        """Return none: nobody is asked."""
        return ()

    def places(self) -> tuple[Place, ...]:
        """Return the nodes to try, in turn."""
        first = next(self._turns) % len(self._hosts)
        return (*self._hosts[first:], *self._hosts[:first])


class AwaitingNodes(BlockingNodes):
    """The same for coroutines."""

    async def places(self) -> tuple[Place, ...]:  # type: ignore[override]
        """Return the nodes to try, in turn."""
        return super().places()


def blocking_finder(address: Address, sentinels: Sequence[redis.Redis], url: str, *, timeout_s: float) -> Any:
    """Return what tells blocking connections where to go."""
    if not sentinels:
        return BlockingNodes(address.hosts)
    return BlockingMaster(address.service, sentinels, whereabouts(url), timeout_s=timeout_s)


def awaiting_finder(address: Address, sentinels: Sequence[redis.asyncio.Redis], url: str) -> Any:
    """Return what tells the connections of coroutines where to go."""
    if not sentinels:
        return AwaitingNodes(address.hosts)
    return AwaitingMaster(address.service, sentinels, whereabouts(url))
