"""The file that the figures of one worker live in: layout, writer, reader; knows no metric and no folder."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import threading
import weakref
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["Pages", "Slab", "claim", "image"]

# Header: magic, then 8-byte words. Records follow: total size, checksum of what the others say, size of the
# name, number of cells; the name; the cells. Sizes are multiples of 16, so cells lie on 8 bytes and are written whole.
_MAGIC = b"SMWCELL1"
_HEADER_BYTES = 64
_USED, _CLOSED, _PID, _PID_SPACE = 1, 2, 3, 4
_RECORD = struct.Struct("=IIII")
_SEGMENT_BYTES = 65_536


def _record(name: bytes, width: int) -> bytes:
    """Return head and name of a record, padded so that the cells behind them end where the record does."""
    size = _RECORD.size + len(name) + 8 * width
    total = size + -size % 16
    check = zlib.crc32(name, total ^ width)
    return _RECORD.pack(total, check, len(name), width) + name + bytes(total - size)


def _zeros(fd: int, start: int, count: int) -> None:
    """Really allocate the bytes: a mapped hole on a full disk would kill the process that writes there."""
    try:
        done = 0
        while done < count:
            done += os.pwrite(fd, bytes(count - done), start + done)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, start)
        raise


def image(records: Iterable[tuple[bytes, Sequence[float]]]) -> bytes:
    """Return a whole file with `records`, for those that are written at once and never change."""
    parts = [bytes(_HEADER_BYTES)]
    for name, cells in records:
        parts += (_record(name, len(cells)), struct.pack(f"={len(cells)}d", *cells))
    content = bytearray(b"".join(parts))
    struct.pack_into("=8sQQ", content, 0, _MAGIC, len(content), 1)
    return bytes(content)


class Slab:
    """Writer of one file, which must not exist yet.

    The file stays locked until the process that made it ends, however it ends; that is how others see it alive.
    Records are only ever added. One is there for readers when the word that says how much is used has grown over it,
    so a crash in between leaves nothing half made.

    Args:
        path: The file.
        pid_space: Tells processes apart that see different process ids.

    Raises:
        OSError: It cannot be made, locked or filled.
    """

    def __init__(self, path: Path, *, pid_space: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self.path = path
        self._fd = os.open(path, flags, 0o600)
        self._release = weakref.finalize(self, os.close, self._fd)
        self._release.atexit = False
        self._lock = threading.RLock()
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(self._fd).st_nlink == 0:
            raise FileNotFoundError(f"{path} was taken for one that a dead worker left")
        self._start = self._end = 0
        self._grow(_SEGMENT_BYTES)
        self._words = memoryview(self._map).cast("Q")
        self._words[_PID], self._words[_PID_SPACE] = os.getpid(), pid_space
        self._at = self._words[_USED] = _HEADER_BYTES
        self._map[:8] = _MAGIC

    def _grow(self, least_bytes: int) -> None:
        least_bytes = max(least_bytes, self._end)  # twice as much each time: a mapping costs a file descriptor
        count = least_bytes + -least_bytes % _SEGMENT_BYTES
        _zeros(self._fd, self._end, count)
        self._map = mmap.mmap(self._fd, count, offset=self._end)
        self._bytes = memoryview(self._map)
        self._doubles = self._bytes.cast("d")
        self._start, self._end = self._end, self._end + count

    def add(self, name: bytes, width: int) -> memoryview[float]:
        """Return `width` new cells that start at 0.

        Args:
            name: What readers see beside the cells.
            width: How many.

        Raises:
            OSError: No room is left on the disk.
        """
        head = _record(name, width)
        size = len(head) + 8 * width
        with self._lock:
            if self._at + size > self._end:
                left = self._end - self._at
                if left:
                    # An empty name fills the rest of the segment.
                    self._bytes[self._at - self._start :][: _RECORD.size] = _RECORD.pack(
                        left, zlib.crc32(b"", left), 0, 0
                    )
                self._at = self._end
                self._grow(size)
            at = self._at - self._start
            # A collection of garbage may end a generator that counts, and so come here again: reserve first.
            self._at += size
            self._bytes[at : at + len(head)] = head
            first = (at + len(head)) // 8
            cells = self._doubles[first : first + width]
            self._words[_USED] = self._at
        return cells

    def close(self, *, closed: bool = True) -> None:
        """Say whether what only a living worker has, its gauges, still counts."""
        self._words[_CLOSED] = int(closed)

    def abandon(self) -> None:
        """Let go of the file in a forked child; it is the parent's. Each mapping lets go with the last of its cells."""
        self._release()


class Pages:
    """Reader of one file as it stands, which may be growing; holds it open until it is dropped.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is none of ours, or not finished.
    """

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self.is_locked = _is_locked(fd)
            with contextlib.suppress(ValueError):  # an empty file cannot be mapped
                self._map = memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
        finally:
            os.close(fd)
        if self._map.nbytes < _HEADER_BYTES or self._map[:8].tobytes() != _MAGIC:
            raise ValueError("no file of figures")
        self._words = self._map[:_HEADER_BYTES].cast("Q")
        self._doubles = self._map.cast("d")

    _map = memoryview(b"")

    @property
    def is_closed(self) -> bool:
        """Whether its worker has said that its gauges no longer count."""
        return bool(self._words[_CLOSED])

    def process(self, pid_space: int) -> int | None:
        """Return the process id of its worker; None where it means nothing in `pid_space`."""
        return int(self._words[_PID]) if self._words[_PID_SPACE] == pid_space else None

    def names(self, after: int = 0) -> Iterator[tuple[bytes, slice, int]]:
        """Yield each record's name, the place of its cells, and where the next record starts.

        Args:
            after: Where to start, as yielded before; records never move.
        """
        at = after or _HEADER_BYTES
        used = min(self._words[_USED], self._map.nbytes)
        while at + _RECORD.size <= used:
            total, check, name_bytes, width = _RECORD.unpack_from(self._map, at)
            start, end = at + _RECORD.size, at + total
            cells_at = end - 8 * width
            name = bytes(self._map[start : start + name_bytes])
            if (
                total % 16
                or not start + name_bytes <= cells_at <= end <= used
                or zlib.crc32(name, total ^ width) != check
            ):
                return  # being written at this moment
            at = end
            if name:
                yield name, slice(cells_at // 8, end // 8), end

    def cells(self, place: slice) -> memoryview[float]:
        """Return the cells of a place that `names` has yielded."""
        return self._doubles[place]


def _is_locked(fd: int) -> bool:
    """Return whether the worker that wrote the file lives."""
    if not _share(fd):
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _share(fd: int) -> bool:
    """Lock a file whose worker is dead, together with all others that look at it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def claim(path: Path) -> int | None:
    """Return a descriptor that keeps the file of a dead worker from being taken into use; None where it lives.

    Raises:
        OSError: It cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    if _share(fd):
        return fd
    os.close(fd)
    return None
