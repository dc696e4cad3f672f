"""Notices that a server runs several workers whose figures are not added up; knows nothing of figures."""

from __future__ import annotations

import logging
import threading

from smw._kernel.workers import fellows

__all__ = ["warn_of_siblings"]

_log = logging.getLogger("smw.monitor")
_looked = threading.Event()


def warn_of_siblings() -> None:
    """Say once a process that it is one of several workers, where a server that starts such is its parent."""
    if _looked.is_set():
        return
    _looked.set()
    others = fellows()
    if others:
        message = "/metrics shows this worker alone, one of %d; set MONITOR_WORKERS_DIR to a folder for all of them"
        _log.warning(message, others + 1)
