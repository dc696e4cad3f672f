"""Tells whether this process has fellow workers, by what servers leave in the environment; knows no server."""

from __future__ import annotations

import os
import re
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["is_one_of_several", "workers_of"]

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


def is_one_of_several() -> bool:
    """Tell whether others run what this process runs, as far as that shows: it was forked, or a server says so."""
    processes = sys.modules.get("multiprocessing.process")  # uvicorn starts its workers by it
    is_child = processes is not None and processes.parent_process() is not None
    return is_child or os.getpid() != _IMPORTED_IN or workers_of(os.environ, sys.argv) > 1
