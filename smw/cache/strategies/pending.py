"""Knows which keys may have writes in a journal, so that most who miss need not ask its database; knows no write.

Processes that share a folder share eight bytes there. Whoever has added a write puts, before it is acknowledged, bytes
in their place that nobody has used before. As long as somebody finds those that he has read the keys after, he knows of
every write that is acknowledged.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from smw._kernel.process import ForkLock
from smw._kernel.threads import in_background

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["SEEN", "Asker", "Pending"]

_BYTES = 8
SEEN = "writes.seen"
"""The file that they share."""
_SPARE = 1000
"""How many keys that wait no more may be remembered until all are read anew."""


class Pending:
    """The keys of the writes that wait in one journal, those of other processes included.

    Args:
        folder: The journal's; None where no other process has it.
        token: The name of this process.
        read: Asks the database.

    Raises:
        OSError: What processes share cannot be opened.
    """

    def __init__(self, folder: Path | None, token: str, read: Callable[..., list[tuple[Any, ...]]]) -> None:
        self._read = read
        self._lock = ForkLock()
        self._keys: set[str] = set()
        self._last = 0
        self._read_after: bytes | None = None
        self._most = _SPARE
        first = hashlib.blake2b(token.encode(), digest_size=_BYTES).digest()
        self._numbers = itertools.count(int.from_bytes(first, "big"))
        self._fd = -1
        self._shared: bytearray | mmap.mmap = bytearray(_BYTES)
        if folder is not None:
            self._fd = os.open(folder / SEEN, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if os.fstat(self._fd).st_size < _BYTES:
                    self.tell()
                self._shared = mmap.mmap(self._fd, _BYTES, access=mmap.ACCESS_READ)
            except BaseException:
                os.close(self._fd)
                raise

    def tell(self) -> None:
        """Tell all processes that a write was added.

        Raises:
            OSError: They cannot be told; this one looks each time until they can.
        """
        number = (next(self._numbers) % 256**_BYTES).to_bytes(_BYTES, "big")
        if isinstance(self._shared, bytearray) and self._fd == -1:
            self._shared[:] = number
            return
        try:
            os.pwrite(self._fd, number, 0)  # not through the map: storing there may wait for a disk, and all with it
        except OSError:
            with self._lock:
                self._read_after = None
            raise

    def lacks(self, key: str) -> bool:
        """Tell whether no write of `key` waits for certain, which takes no time; False says nothing."""
        return self._stand() == self._read_after and key not in self._keys

    def _stand(self) -> bytes:
        """Return what stands in the eight bytes; nothing once this is closed."""
        try:
            return bytes(self._shared[:])
        except ValueError:
            return b""

    def learn(self) -> None:
        """Read which keys wait, if any was added since.

        Raises:
            sqlite3.Error: They cannot be read.
        """
        with self._lock:
            stand = self._stand()
            if stand == self._read_after:
                return
            anew = len(self._keys) > self._most
            rows = self._read("SELECT seq, key FROM writes WHERE seq > ?", 0 if anew else self._last)
            added = {key for _, key in rows}
            if anew:
                self._keys, self._most = added, 2 * len(added) + _SPARE
            else:
                self._keys |= added
            self._last = max((seq for seq, _ in rows), default=self._last)
            self._read_after = stand  # last of all: who asks meanwhile goes by it

    def newest(self, key: str) -> bytes | None:
        """Return the value of the last write of `key` that waits, or None.

        Raises:
            sqlite3.Error: It cannot be read.
        """
        if self.lacks(key):
            return None
        with self._lock:
            self.learn()
            if key not in self._keys:
                return None
            found = self._read("SELECT value FROM writes WHERE key = ? ORDER BY seq DESC LIMIT 1", key)
            if not found:
                self._keys.discard(key)  # one that was added since comes after the last that was read
            return found[0][0] if found else None

    def close(self) -> None:
        """Let go of what processes share; idempotent."""
        fd, self._fd = self._fd, -1
        if fd != -1:
            os.close(fd)
        if isinstance(self._shared, mmap.mmap):
            self._shared.close()


class Asker:
    """A thread that asks for those who cannot wait for a disk; it begins with the first of them."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._asked: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._has_thread = self._is_closed = False

    def forget(self) -> None:
        """Answer nothing any more, in a forked child that has no such thread."""
        self._has_thread, self._is_closed = False, True

    def ask(self, what: Callable[[], Any]) -> Future[Any] | None:
        """Return the answer to come, or None where no thread can be had."""
        future: Future[Any] = Future()
        with self._lock:
            if self._is_closed:
                return None
            self._has_thread = self._has_thread or in_background(self._run, "smw-cache-journal-reads") is not None
            if not self._has_thread:
                return None
            self._asked.put((what, future))
        return future

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            what, future = asked
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(what())
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, and the next ones be served
                future.set_exception(error)
            del asked, what, future

    def close(self) -> None:
        """Have the thread end when it has answered; idempotent."""
        with self._lock:
            self._is_closed = True
            if self._has_thread:
                self._has_thread = False
                self._asked.put(None)
