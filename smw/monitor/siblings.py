"""Notices that a server runs several workers whose figures are not added up; knows nothing of figures."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

from smw.monitor.process import same_parent

__all__ = ["warn_of_siblings"]

_log = logging.getLogger("smw.monitor")
_looked = threading.Event()


def warn_of_siblings() -> None:
    """Say once a process that it is one of several workers, where a server that starts such is its parent."""
    if _looked.is_set():
        return
    _looked.set()
    try:
        others = _siblings()
    except Exception:  # noqa: BLE001 - only a hint is lost
        return
    if others:
        message = "/metrics shows this worker alone, one of %d; set MONITOR_WORKERS_DIR to a folder for all of them"
        _log.warning(message, others + 1)


def _siblings() -> int:
    """Return how many more workers the same parent has; 0 where no server is known to have started this process."""
    processes: Any = sys.modules.get("multiprocessing.process")
    spawned = processes is not None and processes.parent_process() is not None
    forked = "gunicorn.arbiter" in sys.modules
    if not forked and not (spawned and {"uvicorn", "hypercorn"} & sys.modules.keys()):
        return 0
    return same_parent(without="resource_tracker")
