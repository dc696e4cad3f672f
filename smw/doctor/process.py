"""Whether this process and its fellow workers have what they need of the system."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from smw.doctor.report import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

__all__ = ["descriptors", "sharing", "workers_of"]

_ENOUGH = 1024
_WORKERS = re.compile(r"(?:^|\s)(?:-w|--workers)[\s=]*(\d+)")


async def descriptors() -> AsyncIterator[Finding]:
    """Check how many files and connections the process may have open."""
    name = "process.descriptors"
    try:
        import resource
    except ImportError:
        yield Finding(name, "ok", "this system has no such limit")
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _ENOUGH:
        yield Finding(
            name, "ok", "unlimited" if soft == resource.RLIM_INFINITY else f"{soft} open files and connections"
        )
        return
    fix = f"ulimit -n {_ENOUGH * 4}; LimitNOFILE= of systemd" if hard == resource.RLIM_INFINITY or hard > soft else ""
    seen = f"{soft} open files and connections; 64 for each server are smw's, the rest are clients"
    yield Finding(name, "warn", seen, fix or "raise the hard limit of this user")


def workers_of(environ: Mapping[str, str]) -> int:
    """Return how many workers the environment asks gunicorn or uvicorn for, 1 where it says nothing."""
    count = environ.get("WEB_CONCURRENCY", "")
    found = _WORKERS.search(environ.get("GUNICORN_CMD_ARGS", ""))
    if found:
        count = found[1]
    return max(1, int(count)) if count.isdecimal() else 1


async def sharing(workers: int, folder: Path | None) -> AsyncIterator[Finding]:
    """Check that the figures of several workers come together.

    Args:
        workers: Number of workers.
        folder: The monitor's ``workers_dir``.
    """
    name = "process.workers"
    if workers > 1 and folder is None:
        fix = "set MONITOR_WORKERS_DIR to a folder that the workers share"
        yield Finding(name, "warn", f"{workers} workers, each shows metrics of its own", fix)
        return
    shared = f", figures shared in {folder}" if folder else ""
    yield Finding(name, "ok", f"{workers} worker{'s' * (workers > 1)}{shared}")
