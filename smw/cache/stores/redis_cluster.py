"""A Redis cluster as a dozen stores: each keeps one part of the keys, in one slot, on whichever node has that slot.

A value, the counter of its key and the counters of its tags share a slot, so that all of them are read with one MGET
and compared in the instant in which a value is stored, as on one server. A tag is dropped in every part. A node that
fails takes along its own parts and no other.

Nobody is asked for a map: a node that does not have a slot says who does.
"""

from __future__ import annotations

import binascii
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from smw import _redis
from smw._kernel.clock import SystemClock
from smw._kernel.process import ForkLock
from smw.cache.levels.level import run_blocking
from smw.cache.ports import StoreFailedError
from smw.cache.stores.redis import _CONNECTIONS as CONNECTIONS
from smw.cache.stores.redis import RedisStore
from smw.cache.stores.redis_ear import RedisEar
from smw.cache.stores.redis_failures import failure
from smw.cache.stores.redis_lines import AwaitingLines
from smw.cache.stores.redis_reads import SlotReads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from smw._kernel.call import Mode
    from smw.cache.coherence.wire import Wire
    from smw.cache.ports import Pulse

__all__ = ["Cluster", "Shard", "slot_of", "tags_of"]

_SLOTS = 16_384
_TURNS = 4
_LOST = ("timeout", "refused", "connection")
_CHECKED_S = 1.0
_checking: ContextVar[bool] = ContextVar("_checking", default=False)
Place = tuple[str, int]


def tags_of(shards: int) -> tuple[str, ...]:
    """Return a hash tag for each shard, whose slots lie evenly apart, as masters divide the slots among them."""
    found: list[str] = []
    width = _SLOTS / shards
    for shard in range(shards):
        low, high = width * (shard + 0.25), width * (shard + 0.75)
        number = next(n for n in range(_SLOTS * 8) if low <= slot_of(f"{{{n}}}") <= high)
        found.append(f"{{{number}}}")
    return tuple(found)


def slot_of(tag: str) -> int:
    """Return the slot of all names that begin with a hash tag."""
    return binascii.crc_hqx(tag[1:-1].encode(), 0) % _SLOTS


class _Node(RedisStore):
    """The server at one place."""

    is_alone = False

    def __init__(self, url: str, place: Place, *, timeout_s: float) -> None:
        super().__init__(url, timeout_s=timeout_s)
        self.place = place

    async def run(self, mode: Mode, timeout_s: float, *command: Any, asking: bool = False) -> Any:
        """Return the reply to a command, which may be about a slot that is on its way here."""
        first = ("ASKING",) if asking else None
        try:
            if mode == "sync":
                return self._client().run(*command, first=first)
            lines = self._awaiting.get()
            if first is None:
                return await lines.runs.run(timeout_s, *command)
            return await lines.run(timeout_s, *command, first=first)
        except Exception as error:
            raise failure(error) from error

    def listen_to(self, *channels: str) -> RedisEar:
        """Return a connection over which everything is told that any node of the cluster publishes there."""
        try:
            return RedisEar(self._client_of_one(), channels)
        except Exception as error:
            raise failure(error) from error

    async def hang_up(self) -> None:
        """Close the connections of blocking callers."""
        await self._discard(None)

    def _open_awaiting(self) -> AwaitingLines:
        opened = _redis.awaiting(self._url, timeout_s=None, max_connections=CONNECTIONS)
        return AwaitingLines(opened, most=CONNECTIONS, reads=SlotReads)

    async def mget(self, mode: Mode, timeout_s: float, keys: Sequence[str]) -> tuple[Any, Any]:
        """Return the reply, and what ends the connections over which it came."""
        if mode == "sync":
            return await self.run(mode, timeout_s, "MGET", *keys), self.hang_up
        lines = self._awaiting.get()
        try:
            reply = await lines.reads.run(timeout_s, "MGET", *keys)
        except Exception as error:
            raise failure(error) from error
        for refusal in [value for value in reply or () if isinstance(value, Exception)]:
            raise failure(refusal) from refusal
        return reply, partial(self._discard, lines)


class Cluster:
    """The nodes, and which of them has which shard.

    Args:
        url: ``redis+cluster://`` or ``rediss+cluster://``.
        wire: How the namespace's own counters are called.
        timeout_s: Most that one operation of a blocking caller may take.

    Attributes:
        at: Hash tag → where its shard is, as far as that is known.
        shards: The stores.

    Raises:
        MissingExtra: redis-py is not installed.
        ConfigError: The URL is refused.
    """

    def __init__(self, url: str, wire: Wire, *, timeout_s: float) -> None:
        self.at: dict[str, Place] = {}
        self._last: dict[str, Place] = {}
        self._lost: Place | None = None
        self._turn = 0
        self._nodes: dict[Place, _Node] = {}
        self._lock = ForkLock()
        self._timeout_s = timeout_s
        RedisStore(url, timeout_s=timeout_s).close()  # what is missing or refused shows now
        self._address = _redis.parse(url)
        tags = tags_of(self._address.shards)
        self.shards = tuple(Shard(self, url, wire, number, tag, timeout_s=timeout_s) for number, tag in enumerate(tags))

    def node_at(self, place: Place) -> _Node:
        """Return the node at a place."""
        node = self._nodes.get(place)
        if node is None:
            with self._lock:
                node = self._nodes.get(place)
                if node is None:
                    node = self._nodes[place] = _Node(self._address.server(*place), place, timeout_s=self._timeout_s)
        return node

    def guess(self) -> _Node:
        """Return a node that should know where a shard is: another one after each loss, and not the lost one."""
        known = list(dict.fromkeys([*self._last.values(), *self._address.hosts]))
        others = [place for place in known if place != self._lost] or known
        return self.node_at(others[self._turn % len(others)])

    def found(self, tag: str, place: Place) -> bool:
        """Note who has a shard, and close the nodes that have none any more; returns whether another one had it."""
        with self._lock:
            before = self._last.get(tag)
            self.at[tag] = self._last[tag] = place
            kept = {*self._last.values(), *self._address.hosts}
            gone = [self._nodes.pop(other) for other in set(self._nodes) - kept]
        for node in gone:
            node.close()
        return before not in (None, place)

    def lost(self, place: Place) -> None:
        """Ask another node next time where the shards of this one are."""
        with self._lock:
            self._lost = place
            self._turn += 1
            self.at = {tag: at for tag, at in self.at.items() if at != place}

    def place_of(self, shard: Shard) -> Place | None:
        """Return where a shard was last seen."""
        return self._last.get(shard.tag)

    def neighbours(self, shard: Shard) -> tuple[int, ...]:
        """Return the numbers of the shards that were last seen where this one was, itself included."""
        mine = self._last.get(shard.tag)
        return tuple(number for number, other in enumerate(self.shards) if self._last.get(other.tag) == mine)

    def close(self) -> None:
        """Close all connections; idempotent."""
        for node in tuple(self._nodes.values()):
            node.close()

    async def aclose(self) -> None:
        """Close those of the running loop, then as `close`; idempotent."""
        for node in tuple(self._nodes.values()):
            await node.aclose()


class Shard(RedisStore):
    """One part of the keys of a cluster.

    A node may be restarted, or give way to its replica, without a word. So the first request of each second, and each
    one to a node that has just been found, asks whether the same server still reigns over the part; where it does not,
    the server drops everything in it, once for all processes, for it may have lost drops that were acknowledged. A
    process that has used the old one until now tells of it by `on_moved`: its own drops may have gone there.

    Args:
        cluster: Knows the nodes.
        url: The cluster's.
        wire: How the namespace's own counters are called.
        number: Which part.
        tag: What its names begin with.
        timeout_s: Most that one operation of a blocking caller may take.

    Attributes:
        most_enclosed: No value is, for what is sent to one process passes all nodes.
        tag: As given.
        on_moved: Called when another node has the shard than the one that was asked before.
    """

    is_alone = False
    most_enclosed = -1

    def __init__(self, cluster: Cluster, url: str, wire: Wire, number: int, tag: str, *, timeout_s: float) -> None:
        super().__init__(url, timeout_s=timeout_s)
        self.name = f"redis shard {number}"
        self.tag = tag
        self.on_moved: Callable[[], None] = lambda: None
        self._cluster = cluster
        self.part = str(number)
        self._due = 0.0
        self.speak(wire)

    @property
    def where(self) -> str:
        """Host and port of the node that last had it; "" where none is known."""
        place = self._cluster.place_of(self)
        return "" if place is None else ":".join(map(str, place))

    def named(self, name: str) -> str:
        """Return what a key or counter is called in this shard."""
        return self.tag + name

    async def _mget(self, mode: Mode, timeout_s: float, keys: Sequence[str]) -> tuple[Any, Any]:
        named = [self.tag + key for key in keys]

        async def ask(node: _Node, left_s: float, *, asking: bool) -> tuple[Any, Any]:
            if asking:
                return await node.run(mode, left_s, "MGET", *named, asking=True), node.hang_up
            return await node.mget(mode, left_s, named)

        return await self._routed(mode, timeout_s, ask)  # type: ignore[no-any-return]

    async def _discard(self, lines: Any) -> None:
        await lines()

    async def _run(self, mode: Mode, timeout_s: float, *command: Any) -> Any:
        async def ask(node: _Node, left_s: float, *, asking: bool) -> Any:
            return await node.run(mode, left_s, *command, asking=asking)

        return await self._routed(mode, timeout_s, ask)

    async def _script(self, mode: Mode, timeout_s: float, source: str, keys: Sequence[str], *args: Any) -> Any:
        return await super()._script(mode, timeout_s, source, [self.tag + key for key in keys], *args)

    async def _routed(self, mode: Mode, timeout_s: float, ask: Callable[..., Awaitable[Any]]) -> Any:
        """Return what the node that has the shard answers, following what others say of it."""
        until = SystemClock.now() + timeout_s
        for _ in range(_TURNS):
            place = self._cluster.at.get(self.tag) or await self._found_by_asking(mode, until)
            await self._check(mode, until)
            node = self._cluster.node_at(place)
            try:
                return await ask(node, until - SystemClock.now(), asking=False)
            except StoreFailedError as error:
                moved, asked = self._redirected(node, error)
            if moved is not None:
                self._found(moved)
            elif asked is not None:
                return await ask(self._cluster.node_at(asked), until - SystemClock.now(), asking=True)
        raise StoreFailedError("moving", counts=False)

    async def _found_by_asking(self, mode: Mode, until: float) -> Place:
        node = self._cluster.guess()
        place = node.place
        try:
            await node.run(mode, until - SystemClock.now(), "EXISTS", self.tag)
        except StoreFailedError as error:
            moved, _ = self._redirected(node, error)
            place = moved or place
        self._found(place)
        return place

    def _redirected(self, node: _Node, error: StoreFailedError) -> tuple[Place | None, Place | None]:
        """Return where the shard has moved, or who is to be asked this once; raises `error` where it says neither."""
        import redis.exceptions as known

        cause = error.__cause__
        if not isinstance(cause, known.AskError):
            if error.kind in _LOST:
                self._cluster.lost(node.place)
            raise error
        place = str(cause.host) or node.place[0], int(cause.port)
        return (place, None) if isinstance(cause, known.MovedError) else (None, place)  # the one is the other as well

    def _found(self, place: Place) -> None:
        if self._cluster.found(self.tag, place):
            self.on_moved()
        self._due = 0.0

    async def _check(self, mode: Mode, until: float) -> None:
        """Have everything dropped where another server has taken over, or the same one was started anew."""
        now = SystemClock.now()
        if now < self._due or _checking.get():  # nodes that send to each other would have each check begin another one
            return
        under_way = _checking.set(True)
        try:
            await self.pulse(mode=mode, timeout_s=until - now)
        except StoreFailedError as error:
            if error.counts:
                raise
        finally:
            _checking.reset(under_way)

    def speak(self, wire: Wire) -> None:
        """Have drops told to every process of a namespace, by whichever node; all nodes hand on what one publishes."""
        self._wire, self._channel = wire, wire.channel(0)

    def listen(self) -> RedisEar:
        """Return a connection to the shard's node, over which drops in all shards are told from now on."""
        assert self._wire is not None  # noqa: S101 - for the type checker
        until = SystemClock.now() + self._timeout_s
        place = self._cluster.at.get(self.tag) or run_blocking(self._found_by_asking("sync", until))
        node = self._cluster.node_at(place)
        try:
            return node.listen_to(self._channel, self._wire.mail + self._wire.sender)
        except StoreFailedError as error:
            if error.kind in _LOST:
                self._cluster.lost(place)
            raise

    async def pulse(self, *, mode: Mode, timeout_s: float) -> Pulse:
        """Return the number of the shard's newest message, and who has given it, with one script."""
        self._due = SystemClock.now() + _CHECKED_S
        try:
            return await super().pulse(mode=mode, timeout_s=timeout_s)
        except StoreFailedError as error:
            if error.counts:
                self._due = 0.0
            raise

    def probe(self) -> None:
        """Ask the node that has the shard for something in it.

        Raises:
            StoreFailedError: No answer, or a refusal.
        """
        run_blocking(self._run("sync", self._timeout_s, "EXISTS", self.tag))

    def close(self) -> None:
        """Close the blocking connections, and have those of event loops closed there; idempotent."""
        super().close()
        self._cluster.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, then as `close`; idempotent."""
        await self._cluster.aclose()
        await super().aclose()
