"""What the cache asks of a server that keeps values for several processes: the shape of every level behind memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from smw._kernel.call import Mode
    from smw.cache.coherence.wire import Wire

__all__ = [
    "Batcher",
    "Counters",
    "Ear",
    "Found",
    "Lease",
    "LeaseAsk",
    "Leased",
    "Lessor",
    "Lister",
    "Measurer",
    "Pulse",
    "Replacer",
    "Speaker",
    "Store",
    "StoreFailedError",
    "Timekeeper",
    "Versions",
]


class StoreFailedError(Exception):
    """The server did not do what was asked.

    Args:
        kind: Short constant: ``timeout``, ``refused``, ``protocol``, ``auth``, ``readonly``, ``full``, ...
        permanent: Nothing will change until somebody mends a setting.
        counts: Whether it speaks against the server, rather than against this one request.
        remedy: What is wrong and which setting mends it, where somebody has to; no secrets.
    """

    def __init__(self, kind: str, *, permanent: bool = False, counts: bool = True, remedy: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.permanent = permanent
        self.counts = counts
        self.remedy = remedy


Counters = tuple[int | None, ...]
"""Their numbers, in the order asked for; None where the server knows none."""


class Versions(NamedTuple):
    """What stood before a value was loaded; it may be stored only while all of it still stands.

    Attributes:
        fence: The counter of the key, which changes when the key is dropped.
        generations: The counter of each tag.
    """

    fence: int | None
    generations: Counters

    @property
    def is_whole(self) -> bool:
        """Whether every counter was there: one that is missing shows no drop."""
        return self.fence is not None and None not in self.generations


class Found(NamedTuple):
    """What a read brought.

    Attributes:
        blob: The stored bytes, None when there are none.
        counters: What the counters show.
        token: The server's own mark of what was read, to be given back when writing.
    """

    blob: bytes | None
    counters: Counters
    token: object = None


class Pulse(NamedTuple):
    """What a server says of itself and of the messages that it has sent.

    Attributes:
        number: Of the newest message.
        reign: Its own mark, another one after a restart and after a fail-over; empty where it does not tell.
        is_master: Whether it takes writes of its own.
    """

    number: int
    reign: str
    is_master: bool


class Ear(Protocol):
    """A connection over which a server tells what others have dropped."""

    def hear(self, timeout_s: float) -> bytes | None:
        """Return the next message, or None when none has come in time; blocks.

        Raises:
            Exception: The connection is lost.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...

    def interrupt(self) -> None:
        """Have the thread that is waiting in `hear` fail at once; called by another one."""
        ...


@runtime_checkable
class Speaker(Protocol):
    """What a server offers beside `Store` when it tells every process what each of them drops.

    Several that share the keys number their messages each for itself. They can be listened to if each has a name of its
    own among them, `part`, and a connection to any of them brings what all of them tell.
    """

    def speak(self, wire: Wire) -> None:
        """Number every drop from now on, and tell it to all that listen."""
        ...

    def listen(self) -> Ear:
        """Return a connection over which all that is dropped from now on is told; blocks.

        Raises:
            StoreFailedError: There is none.
        """
        ...

    async def pulse(self, *, mode: Mode, timeout_s: float) -> Pulse:
        """Return the server's present state, having seen to it that nothing old outlives a change of its reign."""
        ...


@runtime_checkable
class Replacer(Protocol):
    """What a server offers beside `Store` when it can tell, in the instant in which it stores, who else has written."""

    async def replace(
        self,
        key: str,
        blob: bytes,
        ttl_s: float,
        *,
        counters: Sequence[str],
        found: Found,
        mode: Mode,
        timeout_s: float,
    ) -> int:
        """Change the first of `counters`; store `blob` if all of them still showed what `found` saw, else remove it.

        Returns:
            What the first counter shows now; where nothing is stored the same below zero, or 0.
        """
        ...


@runtime_checkable
class Timekeeper(Protocol):
    """What a server offers beside `Store` when it tells the time, by which all who use it judge how old a value is."""

    async def time(self, *, mode: Mode, timeout_s: float) -> float:
        """Return seconds since the epoch, as the server's clock has them."""
        ...


@runtime_checkable
class Lister(Protocol):
    """What a server offers beside `Store` when it can say which keys it holds."""

    def keys(self, prefix: str, most: int) -> Iterator[str]:
        """Yield keys and counters that begin with `prefix`, in any order; blocks, a little at a time.

        Args:
            prefix: What they begin with.
            most: How many are wanted, as a hint.

        Raises:
            StoreFailedError: The server does not answer.
        """
        ...


@runtime_checkable
class Measurer(Protocol):
    """What a server offers beside `Store` when it can say how it fares."""

    def figures(self) -> Mapping[str, Any]:
        """Return what is known of ``entries``, ``bytes``, ``hits``, ``misses``, ``evictions`` and ``note``; blocks.

        Raises:
            StoreFailedError: The server does not answer.
        """
        ...


@runtime_checkable
class Batcher(Protocol):
    """What a store may offer besides: reading many keys in one round trip."""

    async def read_many(
        self, reads: Sequence[tuple[str, Sequence[str]]], *, mode: Mode, timeout_s: float
    ) -> Sequence[Found]:
        """Return value and counters for each (key, counters), as `Store.read` does for one."""
        ...


class LeaseAsk(NamedTuple):
    """One lease that is asked for.

    Attributes:
        key: Full key.
        counters: Their names, that of the key first.
        is_absent: There was no value when it was looked for; if there is one now, no lease is taken.
        waits: Whether to be told when another holder has done.
        loads: Keys that the asker is loading, for which others may have to wait.
    """

    key: str
    counters: Sequence[str]
    is_absent: bool
    waits: bool = True
    loads: Sequence[str] = ()


class Lease(NamedTuple):
    """One lease as its holder knows it: of two loads in one process, one may have begun before a drop.

    Attributes:
        key: Full key.
        counters: What its counters showed when the lease was taken.
    """

    key: str
    counters: Counters


class Leased(NamedTuple):
    """What came of asking for the lease of a key.

    Attributes:
        counters: What its counters show, new ones among them.
        leads: Whether the asker has it now.
        is_filled: Whether there was no lease to be had because there is a value by now.
        left_s: Where another has it, until when at least if it is not renewed.
    """

    counters: tuple[int, ...]
    leads: bool
    is_filled: bool
    left_s: float


@runtime_checkable
class Lessor(Protocol):
    """What a server offers beside `Speaker` so that one of several processes loads a key."""

    async def lease(self, asks: Sequence[LeaseAsk], ttl_s: float, *, mode: Mode, timeout_s: float) -> Sequence[Leased]:
        """Open counters as `Store.open` does, and take leases or be told when their holders have done.

        Args:
            asks: What for; no key twice.
            ttl_s: Counters must live at least this long.
            mode: The caller's mode.
            timeout_s: How long this may take.
        """
        ...

    async def waiters(self, keys: Sequence[str], *, mode: Mode, timeout_s: float) -> Sequence[str]:
        """Return the keys that those are loading who wait for the leases of `keys`."""
        ...

    def forget(self, lease: Lease) -> bool:
        """Renew a lease no more; returns whether this process still had it."""
        ...

    async def release(self, leases: Sequence[Lease], how: str, *, mode: Mode, timeout_s: float) -> bool:
        """Give leases back, and have those who wait told `how` that has come."""
        ...

    async def renew(self, leases: Sequence[Lease], *, mode: Mode, timeout_s: float) -> bool:
        """Prolong those leases that this process still has."""
        ...


class Store(Protocol):
    """One server.

    Every method takes the caller's mode: in mode ``sync`` it blocks and never suspends, in mode ``async`` it belongs
    to the running event loop. Every method ends within `timeout_s`, give or take one system call, and raises
    `StoreFailedError` for whatever goes wrong. Keys are at most 200 bytes of printable ASCII.

    A counter changes with each drop that names it and never shows a number twice. A server that has forgotten it shows
    none, which equals nothing that was seen before.

    Attributes:
        name: The server in logs and signals; no credentials.
        is_atomic: Whether `write` compares all counters in the same instant in which it stores. Where it is not, the
            value itself must carry them, and every reader must compare.
    """

    name: str
    is_atomic: bool

    async def read(self, key: str, counters: Sequence[str], *, mode: Mode, timeout_s: float) -> Found:
        """Return value and counters in one round trip."""
        ...

    async def open(self, counters: Sequence[str], ttl_s: float, *, mode: Mode, timeout_s: float) -> tuple[int, ...]:
        """Return what the counters show, starting those that are missing with a number never used before.

        Args:
            counters: Their names.
            ttl_s: They must live at least this long.
            mode: The caller's mode.
            timeout_s: How long this may take.
        """
        ...

    async def write(
        self,
        key: str,
        blob: bytes,
        ttl_s: float,
        *,
        counters: Sequence[str],
        found: Found,
        mode: Mode,
        timeout_s: float,
    ) -> bool:
        """Store `blob` if everything that `found` saw still stands; returns whether it was stored."""
        ...

    async def drop(
        self, counters: Sequence[str], keys: Sequence[str], *, mode: Mode, timeout_s: float
    ) -> Sequence[int] | None:
        """Change the counters that exist and remove the keys; on return the server has acknowledged all of it.

        Args:
            counters: Those of dropped tags and of the keys.
            keys: Full keys.
            mode: The caller's mode.
            timeout_s: How long this may take.

        Returns:
            What each counter shows now, or would show if it were opened now: larger than whatever it has shown before.
            A server that may be set back to an older state, drops included, is seen through by them. None where
            numbers do not grow, as on a server that can only lose everything.
        """
        ...

    def probe(self) -> None:
        """Return when the server answers; blocks, with a time-out of its own.

        Raises:
            StoreFailedError: It does not.
        """
        ...

    def close(self) -> None:
        """Close what blocking callers used, and have closed what event loops hold; idempotent."""
        ...

    async def aclose(self) -> None:
        """Close what the running event loop used, then as `close`; idempotent."""
        ...
