"""A thread that does one thing every second, as long as its owner lives; knows not what."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any

__all__ = ["Ticker"]

_log = logging.getLogger("smw.monitor")
_STOP_S = 2.0


class Ticker:
    """Calls a bound method, held weakly, until it is stopped.

    Args:
        work: The method.
        every_s: Seconds between two calls.
    """

    def __init__(self, work: Any, *, every_s: float = 1.0) -> None:
        self._work = weakref.WeakMethod[Any](work)
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is not None:
            return
        self._stopping = threading.Event()
        args = (self._work, self._stopping, self._every_s)
        self._thread = threading.Thread(target=_run, args=args, name="smw-tick", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is ending
            self._thread = None
            _log.warning("figures are not published every second: %s", error)

    def stop(self) -> None:
        """End the thread; idempotent."""
        thread, self._thread = self._thread, None
        self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_S)

    def after_fork(self) -> None:
        """Forget the parent's thread in a forked child."""
        self._thread = None


def _run(work: weakref.WeakMethod[Any], stopping: threading.Event, every_s: float) -> None:
    while not stopping.wait(every_s):
        call = work()
        if call is None:
            return
        try:
            call()
        except Exception:  # noqa: BLE001 - the next second is another chance
            _log.exception("publishing figures failed")
        del call
