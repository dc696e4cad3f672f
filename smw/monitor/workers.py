"""Which workers of a host belong together, what all of them have counted, what the dead left; knows no meter."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from typing import TYPE_CHECKING

from smw.monitor.folder import FOLDED, Folder, Opened
from smw.monitor.naming import naming
from smw.monitor.slab import Slab, claim, image
from smw.monitor.totals import Rows, Totals

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from smw._kernel.clock import Entropy

__all__ = ["Workers"]

_log = logging.getLogger("smw.monitor")
_TRIES = 10


class Workers:
    """The workers that share one folder.

    Each has a file of its own, which it alone writes and keeps locked while it lives. One more file holds the sums of
    those that have died, and the names of the files it has taken in. It is replaced as a whole, and only then are those
    files removed: at every moment each count is found exactly once, whoever is killed.

    Args:
        folder: The folder; made when the first worker joins.
        entropy: Makes names that no two workers share.
        most: Series that are kept of the dead, per metric.
    """

    def __init__(self, folder: Path, entropy: Entropy, *, most: int) -> None:
        self._folder = Folder(folder)
        self._entropy = entropy
        self._most = most
        self._lock = threading.RLock()
        self._failed = False

    def join(self) -> Slab | None:
        """Return a file for this process; None, with a warning, where that cannot be."""
        path = self._folder.path
        reason = "others take its files away"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for _ in range(_TRIES):
                stem = f"{os.getpid()}-{self._entropy.token_bytes(6).hex()}"
                with contextlib.suppress(BlockingIOError, FileNotFoundError, FileExistsError):
                    return Slab(self._folder.fresh(stem), pid_space=_pid_space())
        except OSError as error:
            reason = error.strerror or str(error)
        message = "workers_dir %s cannot be used (%s): metrics are those of this process alone"
        _log.warning(message, path, reason)
        return None

    def read(self, own: Slab, rows: Iterable[Rows]) -> tuple[Totals, set[int]]:
        """Return the sums over all workers, dead ones included, and the ids of the other living processes.

        Args:
            own: The file of this process, which need not be read.
            rows: What this process itself has counted.

        Raises:
            OSError: The folder or the sums of the dead cannot be read.
        """
        mine = list(rows)
        look = self._look(own, mine)
        for _ in range(_TRIES):
            if look.is_whole:
                break
            look = self._look(own, mine)
        if look.dead:
            self.fold()
        return look.totals, look.pids

    def _look(self, own: Slab, mine: Iterable[Rows]) -> _Look:
        with self._lock:
            return _Look(self._folder, own.path.name, mine)

    def fold(self) -> None:
        """Take in what dead workers left, and remove their files; one process does so at a time."""
        try:
            fd = os.open(self._folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with self._lock, contextlib.ExitStack() as held:
                    self._fold(held)
            finally:
                os.close(fd)
        except BlockingIOError:
            return
        except OSError as error:
            if not self._failed:
                self._failed = True
                _log.warning("what dead workers left in %s stays there: %s", self._folder.path, error)

    def _fold(self, held: contextlib.ExitStack) -> None:
        _, base = self._folder.dead()
        totals = Totals(most=self._most)
        folded = frozenset[str]()
        if base is not None:
            folded = base.folded
            _add(totals, base.rows(gauges=False))
        left, counts = set[str](), False
        for name in self._folder.names():
            fd = claim(self._folder.path / name)
            if fd is None:
                continue
            held.callback(os.close, fd)
            left.add(name)
            worker = self._folder.worker(name) if name not in folded else None
            if worker is not None:
                rows = [(instrument, list(series)) for instrument, series in worker.rows(gauges=False)]
                counts = counts or any(any(cells) for _, series in rows for _, cells in series)
                _add(totals, rows)
        if counts:
            self._replace(totals, left)
        for name in left:
            (self._folder.path / name).unlink(missing_ok=True)

    def _replace(self, totals: Totals, folded: set[str]) -> None:
        whole = image(
            [
                (FOLDED + " ".join(sorted(folded)).encode(), []),
                *((naming(instrument, labels), cells) for instrument, rows in totals for labels, cells in rows),
            ]
        )
        draft = self._folder.base.with_suffix(".new")
        draft.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(draft, flags, 0o600), "wb") as file:  # noqa: PTH123 - by descriptor
            file.write(whole)
        draft.replace(self._folder.base)

    def after_fork(self) -> None:
        """Give a forked child a lock of its own."""
        self._lock = threading.RLock()


class _Look:
    """One look at the figures of all workers.

    Args:
        folder: Where they are.
        own: Name of this process's file.
        mine: What this process has counted.

    Attributes:
        totals: The sums.
        pids: Ids of the other living processes.
        dead: Whether there are files to take in.
        is_whole: Whether no file was taken in meanwhile, so that nothing was missed and nothing seen twice.
    """

    def __init__(self, folder: Folder, own: str, mine: Iterable[Rows]) -> None:
        self.totals = Totals()
        self.pids: set[int] = set()
        _add(self.totals, mine)
        mark, base = folder.dead()
        if base is not None:
            _add(self.totals, base.rows(gauges=False))
        names, folded = folder.names(), base.folded if base is not None else frozenset[str]()
        self.dead = not names.isdisjoint(folded)
        for name in names - folded - {own}:
            try:
                worker = folder.worker(name)
            except OSError as error:
                folder.say(name, error)
                continue
            if worker is None:
                self.dead = True  # to be cleared away, unless it is about to be used
            else:
                self._add(worker)
        self.is_whole = folder.mark() == mark

    def _add(self, worker: Opened) -> None:
        pages = worker.pages
        lives = pages.is_locked and not pages.is_closed
        _add(self.totals, worker.rows(gauges=lives))
        self.dead = self.dead or not pages.is_locked
        pid = pages.process(_pid_space()) if lives else None
        if pid is not None and pid != os.getpid():
            self.pids.add(pid)


def _add(totals: Totals, rows: Iterable[Rows]) -> None:
    for row in rows:
        totals.add(row)


def _pid_space() -> int:
    """Return what tells apart processes that do not see one another's process ids; 0 where there is but one space."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - no path object for each scrape
    except OSError:
        return 0
