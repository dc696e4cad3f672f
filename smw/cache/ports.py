"""What the cache asks of a server that keeps values for several processes: the shape of every level behind memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.call import Mode

__all__ = ["Found", "Store", "StoreFailedError", "Versions"]


class StoreFailedError(Exception):
    """The server did not do what was asked.

    Args:
        kind: Short constant: ``timeout``, ``refused``, ``protocol``, ``auth``, ``readonly``, ``full``, ...
        permanent: Nothing will change until somebody mends a setting.
        counts: Whether it speaks against the server, rather than against this one request.
    """

    def __init__(self, kind: str, *, permanent: bool = False, counts: bool = True) -> None:
        super().__init__(kind)
        self.kind = kind
        self.permanent = permanent
        self.counts = counts


class Versions(NamedTuple):
    """What stood before a value was loaded; it may be stored only while all of it still stands.

    Attributes:
        fence: Version of the key; grows when the key is dropped. 0 where the key was not dropped lately.
        generations: Generation of each tag, in the order asked for; None where the server knows none yet.
    """

    fence: int
    generations: tuple[int | None, ...]


class Found(NamedTuple):
    """What a read brought.

    Attributes:
        blob: The stored bytes, None when there are none.
        versions: What stands now.
        token: The server's own mark of what was read, to be given back when writing.
    """

    blob: bytes | None
    versions: Versions
    token: object = None


class Store(Protocol):
    """One server.

    Every method takes the caller's mode: in mode ``sync`` it blocks and never suspends, in mode ``async`` it belongs
    to the running event loop. Every method ends within `timeout_s`, give or take one system call, and raises
    `StoreFailedError` for whatever goes wrong. Keys are at most 200 bytes of printable ASCII.
    """

    name: str

    async def read(self, key: str, tags: Sequence[str], *, mode: Mode, timeout_s: float) -> Found:
        """Return value, fence and generations in one round trip."""
        ...

    async def open(self, tags: Sequence[str], ttl_s: float, *, mode: Mode, timeout_s: float) -> tuple[int, ...]:
        """Return the generations of `tags`, starting those that have none with a number never used before.

        Args:
            tags: Names of the counters.
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
        tags: Sequence[str],
        found: Found,
        mode: Mode,
        timeout_s: float,
    ) -> bool:
        """Store `blob` if everything that `found` saw still stands; returns whether it was stored."""
        ...

    async def drop(self, tags: Sequence[str], keys: Sequence[str], *, mode: Mode, timeout_s: float) -> None:
        """Give `tags` new generations, remove `keys` and refuse values of them that were loaded before.

        On return the server has acknowledged all of it.
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
