"""The thread that brings acknowledged writes to their source while somebody uses their cache; decides nothing."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smw.cache.strategies.behind import WriteBehind
    from smw.cache.strategies.journal import Journal
    from smw.cache.strategies.writing import Writes

__all__ = ["Drainer"]

_log = logging.getLogger("smw.cache")


class Drainer:
    """What the thread of one cache knows.

    It holds the cache, and the functions that do its writes, only while some of theirs wait, so that one that nobody
    closes can go when all are done, and with it the thread and the journal.

    Args:
        behind: The writes.
    """

    def __init__(self, behind: WriteBehind) -> None:
        self.wake = threading.Event()
        self.opened: list[Journal] = []
        self._behind = weakref.ref(behind)
        self._owing: dict[Writes, WriteBehind] = {}
        self._lock = threading.Lock()
        self._said = ""

    def start(self) -> threading.Thread:
        """Start it.

        Raises:
            RuntimeError: The interpreter ends.
        """
        behind = self._behind()
        pause_s = None if behind is None else behind.pause_s()
        thread = threading.Thread(target=self._run, args=(pause_s,), name="smw-cache-writes", daemon=True)
        thread.start()
        return thread

    def owe(self, behind: WriteBehind, writer: Writes) -> None:
        """Hold the cache until nothing of a function waits any more; called once a write of it is acknowledged."""
        with self._lock:
            self._owing[writer] = behind

    def _run(self, pause_s: float | None) -> None:
        while pause_s is not None:
            self.wake.wait(pause_s)
            self.wake.clear()
            pause_s = self._once()

    def _once(self) -> float | None:
        """Have written what waits; returns how long nothing has to be looked at, or None at the end."""
        behind = self._behind()
        if behind is None:
            for journal in self.opened:
                journal.close()
            return None
        if behind.is_closed:
            self._owing = {}
            return None
        try:
            behind.tick()
            with self._lock:  # before it is asked what waits: what is acknowledged from now on is owed anew
                held, self._owing = self._owing, {}
            still = set(held)
            try:
                waiting = behind.waiting_writers()
                still = {writer for writer in held if writer.target.name in waiting}
            finally:
                for writer in still:
                    self.owe(behind, writer)
            self._said = ""
        except Exception as error:  # noqa: BLE001 - whatever it was, what is acknowledged must be tried again
            level = logging.DEBUG if self._said == repr(error) else logging.ERROR  # a full disk stays full for long
            self._said = repr(error)
            _log.log(level, "writing what was acknowledged failed; it is tried again", exc_info=True)
        return behind.pause_s()
