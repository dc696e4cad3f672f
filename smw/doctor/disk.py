"""Whether a folder can be written and how long the disk takes to make a write durable; leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from functools import partial
from typing import TYPE_CHECKING

from smw.doctor.probe import in_daemon
from smw.doctor.report import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from smw._kernel.clock import Clock

__all__ = ["folder"]

_SLOW_S = 0.05
_ROUNDS = 5
_LOW_BYTES = 2**30


def _nearest(path: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _sync_s(path: Path, clock: Clock) -> float:
    times = []
    with tempfile.TemporaryFile(dir=path, prefix=".smw-doctor-", buffering=0) as file:  # without a name where it can be
        for _ in range(_ROUNDS):
            started = clock.now()
            file.write(b"smw doctor\n")
            os.fsync(file.fileno())
            times.append(clock.now() - started)
    return statistics.median(times)


def _look(path: Path, name: str, holder: str, clock: Clock) -> list[Finding]:
    path = path.absolute()
    there = _nearest(path)
    if not there.is_dir():
        return [Finding(f"{name}.write", "fail", f"{there} is no folder", f"correct the path in {holder}")]
    try:
        took = _sync_s(there, clock)
    except OSError as error:
        fix = f"let this user write there, or correct the path in {holder}"
        return [Finding(f"{name}.write", "fail", f"{there}: {(error.strerror or str(error)).lower()}", fix)]
    missing = "" if there == path else f"; {path} will be made when it is needed"
    found = [Finding(f"{name}.write", "ok", f"{there} can be written{missing}")]
    seen = f"{took * 1000:.1f} ms"
    if took > _SLOW_S:
        fix = f"name a folder on a local disk in {holder}"
        found.append(Finding(f"{name}.fsync", "warn", f"{seen}: each recorded call waits for it", fix))
    else:
        found.append(Finding(f"{name}.fsync", "ok", seen))
    free = shutil.disk_usage(there).free
    if free < _LOW_BYTES:
        fix = f"make room, or name another disk in {holder}"
        return [*found, Finding(f"{name}.room", "warn", f"{free // 2**20} MB free", fix)]
    return [*found, Finding(f"{name}.room", "ok", f"{free // 2**30} GB free")]


async def folder(path: Path, name: str, holder: str, clock: Clock) -> AsyncIterator[Finding]:
    """Check that files can be made in a folder, that fsync is fast, and that there is room.

    Args:
        path: The folder; it need not exist yet, then the one that it would be made in counts.
        name: Prefix of the findings.
        holder: The setting or variable that names it.
        clock: Times the disk.
    """
    for finding in await in_daemon(partial(_look, path, name, holder, clock)):
        yield finding
