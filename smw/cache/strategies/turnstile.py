"""Has processes that share a folder write to its database in turn; knows no database.

SQLite has who waits pause for longer and longer, so that one who writes all the time gets in before all who wait. Here
who comes next stands at the door: nobody has two turns while another one waits.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Turnstile"]

_MOST_S = 0.5
_DOOR_S, _LOOK_S = 0.0003, 0.0001


class Turnstile:
    """The turns of one process.

    Args:
        folder: Where the locks are.

    Raises:
        OSError: They cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._door, self._room = (
            os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("door.lock", "room.lock")
        )
        self._never = threading.Event()

    def close(self) -> None:
        """Close the files; also what a forked child does first, for the locks are its parent's."""
        fds, self._door, self._room = (self._door, self._room), -1, -1
        for fd in fds:
            if fd != -1:
                os.close(fd)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn; where nobody takes any for a while (who has it was stopped) the database is left to tell."""
        left_s = _MOST_S
        with suppress(OSError, ValueError):
            left_s = self._locked(self._door, _DOOR_S, left_s)
            left_s = self._locked(self._room, _LOOK_S, left_s)
        self._free(self._door)
        try:
            yield
        finally:
            self._free(self._room)

    def _locked(self, fd: int, pause_s: float, left_s: float) -> float:
        """Lock a file; returns what is left of the time for it.

        Raises:
            OSError: It cannot be locked within that.
        """
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if left_s <= 0:
                    raise
                self._never.wait(pause_s)
                left_s -= pause_s
            else:
                return left_s

    @staticmethod
    def _free(fd: int) -> None:
        with suppress(OSError, ValueError):  # closed meanwhile, in a forked child
            fcntl.flock(fd, fcntl.LOCK_UN)
