"""Opens the journal, also for a write that comes after closing, and tells what is lost or left; does no write."""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING, Any

from smw.cache.strategies.journal import Journal
from smw.cache.strategies.journal_rows import put
from smw.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from smw._kernel.host import Host

__all__ = ["leave_behind", "open_journal", "tell_gone", "tell_left"]

_log = logging.getLogger("smw.cache")


def open_journal(folder: Path | None, host: Host) -> Journal:
    """Return the journal of a folder, or one in memory.

    Raises:
        ConfigError: The folder cannot be used.
    """
    try:
        return Journal(folder, lambda: host.entropy.token_bytes(8).hex())
    except (OSError, sqlite3.Error) as error:
        what = f"cache setting 'state_dir' cannot be used: {error}"
        fix = "CACHE_STATE_DIR: a folder on a local disk that this process may write to"
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            fix = f"the journal is damaged: move writes.db, writes.db-wal and writes.db-shm out of {folder}; what they "
            fix += "hold and their source has not is lost, but for what `sqlite3 writes.db .recover` gets out"
        raise ConfigError("SMW-C161", what, fix=fix) from error


def leave_behind(folder: Path, host: Host, row: dict[str, Any]) -> bool:
    """Leave a write to the next process that opens the folder, if older ones of its key are left there.

    Returns:
        Whether it was left.

    Raises:
        ConfigError: The folder cannot be used.
        sqlite3.Error: It could not be made durable.
    """
    if not (folder / "writes.db").exists():
        return False
    journal = open_journal(folder, host)
    try:
        return journal.submit(put(row | {"owner": journal.token}, most=0)).result() is not None
    finally:
        journal.close()


def tell_gone(journal: Journal) -> None:
    """Log, once, that the folder of a journal was removed."""
    if journal.was_removed():
        _log.error(
            "the journal in %s was removed: writes and drops that this process has noted there, and those to come, are "
            "lost with it; restart it, and keep CACHE_STATE_DIR where nothing is cleared away",
            journal.folder,
        )


def tell_left(journal: Journal) -> None:
    """Log how many writes a journal that is being closed still has."""
    left = sum(count for _, count in journal.by_writer())
    if left and journal.is_durable:
        _log.warning("%d acknowledged writes are left in %s and are done by the next start", left, journal.folder)
    elif left:
        _log.error("%d acknowledged writes that were buffered in memory are lost", left)
