"""Whether this process and its fellow workers have what they need of the system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw._kernel.workers import workers_of
from smw.doctor.report import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["descriptors", "dropping", "sharing", "workers_of"]

_ENOUGH = 1024


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


async def dropping(workers: int) -> AsyncIterator[Finding]:
    """Tell that several workers have a cache without a server, so that none hears what another drops."""
    seen = f"{workers} workers, and no server of the cache: what one drops the others keep until its time to live ends"
    yield Finding("process.drops", "warn", seen, "set CACHE_L2_URL to a Redis, where anything is ever dropped")
