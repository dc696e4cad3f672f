"""An audit store in files: JSON-lines segments, a checkpoint beside them, one writer per folder; knows no record."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from smw.security.trail.layout import CHECKPOINT, LOG_NAME, TEMPORARY, Damaged, scan, segment_name, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from smw.security.trail.note import Checkpoint

__all__ = ["FileStore", "open_store"]

_log = logging.getLogger("smw.security")
_SYNC: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
SEGMENT_BYTES = 64 * 2**20
_MOST_RACES = 16


class FileStore:
    """One log in one folder, locked for this process.

    Args:
        directory: The log's own folder; its name is the log's id.
        segment_bytes: A segment that reached this size is followed by a new one.
        sync: Makes written bytes of a file descriptor durable.
        accepts: Tells whether the checkpoint is signed as it must be; None takes any.

    Raises:
        BlockingIOError: Another writer has the log.
        Damaged: The log is not as its writer left it.
        OSError: The folder cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        sync: Callable[[int], None] = _SYNC,
        accepts: Callable[[Checkpoint], bool] | None = None,
    ) -> None:
        self.log_id = directory.name
        self.durable = True
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._sync = sync
        self._fd: int | None = None
        self._offset = 0
        self._broken = False
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock: int | None = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (directory / TEMPORARY).unlink(missing_ok=True)
            state = scan(directory, accepts)
            self.tree = state.tree
            self.found = {name: count for name in ("cut_bytes", "adopted") if (count := int(getattr(state, name)))}
            if state.last is not None:
                self._continue(state.last, state.offset)
        except BaseException:
            self.close()
            raise

    def append(self, lines: Sequence[bytes]) -> None:
        """Write the lines and make them durable, all or none.

        Raises:
            OSError: None of them counts as written.
        """
        if self._lock is None or self._broken:
            raise OSError(errno.EIO, "the audit log is closed, or a write failed and was not recovered")
        data = b"\n".join((*lines, b""))
        self._broken = True
        if self._fd is None or self._offset >= self._segment_bytes:
            self._fd = self._begin_segment(self._lock)
        self._check_untouched(self._fd)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._sync(self._fd)
        self._broken = False
        self._offset += len(data)
        self.tree.extend(lines)

    def checkpoint(self, text: str) -> None:
        """Write the checkpoint beside the old one, then put it in its place.

        Raises:
            OSError: The old checkpoint stands.
        """
        if self._lock is None:
            raise OSError(errno.EBADF, "the audit log is closed")
        temporary = self._directory / TEMPORARY
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, text.encode())
            self._sync(fd)
        finally:
            os.close(fd)
        temporary.replace(self._directory / CHECKPOINT)
        os.fsync(self._lock)

    def recover(self) -> None:
        """Cut the segment back to its durable end, compare it with the tree, and go on in a new segment.

        Raises:
            OSError: It cannot be cut or synced.
            Damaged: What is on disk is not what was written.
        """
        if self._lock is None:
            raise OSError(errno.EBADF, "the audit log is closed")
        if self._fd is not None:
            self._check_linked(self._fd)
            os.ftruncate(self._fd, self._offset)
            self._sync(self._fd)
        state = scan(self._directory)
        if (state.tree.size, state.tree.root()) != (self.tree.size, self.tree.root()):
            raise Damaged("the audit log on disk is not what was written")
        if self._offset:
            self._fd = self._begin_segment(self._lock)
        os.fsync(self._lock)
        self._broken = False

    def lines(self) -> Iterator[bytes]:
        """Yield the lines in order, as they are on disk."""
        left = self.tree.size
        for file in segments(self._directory):
            with file.open("rb") as lines:
                for line in lines:
                    if not left:
                        return
                    left -= 1
                    yield line.removesuffix(b"\n")

    def close(self) -> None:
        """Close the files and give the lock free."""
        for fd in (self._fd, self._lock):
            if fd is not None:
                os.close(fd)
        self._fd = self._lock = None

    def _begin_segment(self, directory: int) -> int:
        path = self._directory / segment_name(self.tree.size)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._offset = fd, 0
        os.fsync(directory)
        return fd

    def _continue(self, path: Path, offset: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._offset = offset
        os.ftruncate(self._fd, offset)
        self._sync(self._fd)  # lines that the last writer had not acknowledged become durable here

    def _check_linked(self, fd: int) -> None:
        if not os.fstat(fd).st_nlink:
            raise Damaged("the audit log was deleted while it was written")

    def _check_untouched(self, fd: int) -> None:
        self._check_linked(fd)
        if os.fstat(fd).st_size != self._offset:
            raise Damaged("somebody else changed the audit log while it was written")


def open_store(
    trail_dir: Path,
    new_id: Callable[[], bytes],
    *,
    segment_bytes: int = SEGMENT_BYTES,
    accepts: Callable[[Checkpoint], bool] | None = None,
) -> FileStore:
    """Continue the first log of `trail_dir` that nobody writes, or begin a new one.

    A log that is not as its writer left it, or that another key signed, is reported and left alone.

    Args:
        trail_dir: Folder of logs.
        new_id: Draws six unpredictable bytes for the name of a new log.
        segment_bytes: Size at which a segment is full.
        accepts: Tells whether the checkpoint of a log is signed as it must be; None takes any.

    Raises:
        OSError: The folder cannot be used.
    """
    for _ in range(_MOST_RACES):
        with suppress(BlockingIOError):  # another process has found the new log before it was locked, and has it now
            return _next_store(trail_dir, new_id, segment_bytes, accepts)
    return _next_store(trail_dir, new_id, segment_bytes, accepts)


def _next_store(
    trail_dir: Path, new_id: Callable[[], bytes], segment_bytes: int, accepts: Callable[[Checkpoint], bool] | None
) -> FileStore:
    trail_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs = sorted(path for path in trail_dir.iterdir() if LOG_NAME.fullmatch(path.name))
    for path in logs:
        try:
            return FileStore(path, segment_bytes=segment_bytes, accepts=accepts)
        except BlockingIOError:
            continue
        except Damaged as damage:
            _log.error("audit log %s is not continued, a new one begins: %s", path, damage)
    number = 1 + max((int(path.name.partition("-")[0]) for path in logs), default=0)
    return FileStore(trail_dir / f"{number:04d}-{new_id().hex()}", segment_bytes=segment_bytes)
