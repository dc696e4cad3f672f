"""Tells whether this process has fellow workers, by its servers' environment, modules and children; starts none."""

from __future__ import annotations

import os
import re
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["fellows", "is_one_of_several", "workers_of"]

_WORKERS = re.compile(r"(?:^|\s)(?:-w|--workers)[\s=]*(\d+)")
_SERVERS = frozenset({"gunicorn", "uvicorn", "hypercorn", "granian"})
_IMPORTED_IN = os.getpid()


def workers_of(environ: Mapping[str, str], argv: Sequence[str] = ()) -> int:
    """Return how many workers gunicorn or another server is asked for, 1 where nothing says so.

    Args:
        environ: The environment, which holds `WEB_CONCURRENCY` and gunicorn's arguments.
        argv: The command line, which says more than the environment where it is a server's.
    """
    count = environ.get("WEB_CONCURRENCY", "")
    said = [environ.get("GUNICORN_CMD_ARGS", "")]
    if argv and not _SERVERS.isdisjoint(PurePath(argv[0]).parts):
        said.append(" ".join(argv[1:]))
    for found in filter(None, map(_WORKERS.search, said)):
        count = found[1]
    return max(1, int(count)) if count.isdecimal() else 1


def fellows() -> int:
    """Return how many more workers the parent of this one has; 0 where no server is known to have started it."""
    forked = "gunicorn.arbiter" in sys.modules
    if not forked and not (_is_spawned() and {"uvicorn", "hypercorn"} & sys.modules.keys()):
        return 0
    try:
        return _same_parent(without="resource_tracker")
    except Exception:  # noqa: BLE001 - a process that has just ended, or may not be looked at: only a hint is lost
        return 0


def is_one_of_several() -> bool:
    """Tell whether others run what this process runs, as far as that shows: it was forked, or a server says so."""
    if _is_spawned() or os.getpid() != _IMPORTED_IN or workers_of(os.environ, sys.argv) > 1:
        return True
    return fellows() > 0  # of gunicorn, whose settings may stand in a file


def _is_spawned() -> bool:
    processes: Any = sys.modules.get("multiprocessing.process")  # uvicorn starts its workers by it
    return processes is not None and processes.parent_process() is not None


def _same_parent(*, without: str) -> int:
    """Return how many other processes of the same program this one's parent has.

    Args:
        without: Those with this text in their command line do not count.
    """
    import psutil

    me = psutil.Process()
    parent = me.parent()
    if parent is None:
        return 0
    children = (child for child in parent.children() if child.pid != me.pid and child.exe() == me.exe())
    return sum(without not in " ".join(child.cmdline()) for child in children)
