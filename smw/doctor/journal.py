"""What waits in the folder of acknowledged writes, and what was given up there; changes nothing in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from smw.doctor.probe import in_daemon
from smw.doctor.report import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from smw._kernel.clock import Clock

__all__ = ["writes"]

_LONG_S = 3600.0


def _look(folder: Path, clock: Clock) -> list[Finding]:
    found = []
    for path in sorted(folder.glob("*/writes.db")):
        name = f"cache.writes {path.parent.name}"
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as journal:
                waiting, oldest = journal.execute("SELECT count(*), min(made) FROM writes").fetchone()
                writers = [writer for (writer,) in journal.execute("SELECT DISTINCT writer FROM writes ORDER BY made")]
                ((dead,),) = journal.execute("SELECT count(*) FROM dead").fetchall()
        except sqlite3.Error as error:
            found.append(
                Finding(name, "fail", f"{path}: {error}", "restore it, or move it away: what it holds is lost")
            )
            continue
        if dead:
            fix = f"see the table dead of {path}: mend what it names, do the writes by hand, delete the rows"
            found.append(Finding(f"{name} dead", "warn", f"{dead} acknowledged writes were given up", fix))
        waited_s = clock.wall() - oldest if waiting else 0.0
        if waited_s > _LONG_S:
            fix = f"start a process that imports {', '.join(writers[:3])}, or see why its source fails"
            seen = f"{waiting} wait, the oldest for {waited_s / 3600:.0f} hours"
            found.append(Finding(name, "warn", seen, fix))
        else:
            found.append(Finding(name, "ok", f"{waiting} wait"))
    return found


async def writes(folder: Path, clock: Clock) -> AsyncIterator[Finding]:
    """Look into the journals of a folder.

    Args:
        folder: That of the cache setting ``state_dir``.
        clock: Tells how long something has waited.
    """
    for finding in await in_daemon(partial(_look, folder, clock)):
        yield finding
