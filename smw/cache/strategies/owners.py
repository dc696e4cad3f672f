"""Says which processes that share a folder live, each of which holds the lock of a file there; knows no database."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ["Owners"]

_SUFFIX = ".owner"


class Owners:
    """The processes of a folder.

    Args:
        folder: Where their files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: tuple[str, int] | None = None

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"

    def take(self, name: str) -> bool:
        """Take a name for this process; returns whether nobody else has it.

        Raises:
            OSError: The folder cannot be used.
        """
        try:
            fd = _locked(self._file(name))
        except BlockingIOError:
            return False
        if not os.fstat(fd).st_nlink:  # somebody has just taken its file for that of a dead one
            os.close(fd)
            return False
        self._own = name, fd
        return True

    def give_up(self) -> None:
        """Be nobody any more, and leave nothing; idempotent."""
        own, self._own = self._own, None
        if own is not None:
            with suppress(OSError):
                self._file(own[0]).unlink()
            os.close(own[1])

    def forked(self) -> None:
        """Leave the name to the parent."""
        own, self._own = self._own, None
        if own is not None:
            os.close(own[1])

    def is_alive(self, name: str) -> bool:
        """Tell whether a process still holds its lock."""
        if self._own is not None and self._own[0] == name:
            return True
        try:
            held = _locked(self._file(name), create=False)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        os.close(held)
        return False

    def forget(self, name: str) -> None:
        """Remove the file of a process, if that is dead."""
        if self._own is not None and self._own[0] == name:
            return
        with suppress(OSError):
            held = _locked(self._file(name), create=False)
            try:
                self._file(name).unlink(missing_ok=True)  # locked until it is gone: nobody takes the name meanwhile
            finally:
                os.close(held)

    def sweep(self, kept: Collection[str]) -> None:
        """Remove the files of all processes that are dead, but for those that have left something."""
        for path in list(self._folder.glob(f"*{_SUFFIX}")):
            if path.stem not in kept:
                self.forget(path.stem)


def _locked(path: Path, *, create: bool = True) -> int:
    """Open a file and lock it for as long as it is open.

    Raises:
        OSError: Another process has locked it.
    """
    fd = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd
