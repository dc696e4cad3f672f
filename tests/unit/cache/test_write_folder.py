"""The folder of acknowledged writes: whose files are in it, what becomes of those of the dead, and of a damaged one."""

from __future__ import annotations

import fcntl
import itertools
import logging
import sqlite3

import pytest

from smw.cache.strategies import owners as owners_module
from smw.cache.strategies.journal import Journal
from smw.cache.strategies.journal_rows import put
from smw.cache.strategies.owners import Owners
from smw.errors import ConfigError
from tests.unit.cache.test_write_back import Users, patient

__all__ = ["patient"]


@pytest.fixture
def connections(monkeypatch):
    """All connections to databases that are made."""
    made, connect = [], sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **how: made.append(connect(*args, **how)) or made[-1])
    return made


def is_closed(connection):
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return True
    except sqlite3.DatabaseError:
        return False
    return False


def names(folder):
    return {path.stem for path in folder.glob("*.owner")}


def test_processes_that_were_killed_leave_no_files_for_good(tmp_path):
    """Who comes next removes theirs, but not that of one that lives, or of one whose writes are still to be done."""
    made = (f"process-{number}" for number in itertools.count())
    living, killed = Journal(tmp_path, lambda: next(made)), Journal(tmp_path, lambda: next(made))
    row = {"key": "k", "writer": "w", "owner": killed.token, "loop": 0, "arguments": b"", "value": b"", "made": 0.0}
    killed.submit(put(row, most=1)).result()
    killed._owners.forked()  # the lock goes, as when it is killed, and the file stays
    for number in range(3):
        (tmp_path / f"long-dead-{number}.owner").touch()
    after = Journal(tmp_path, lambda: next(made))
    try:
        assert names(tmp_path) == {living.token, killed.token, after.token}
        assert (after.is_alive(living.token), after.is_alive(killed.token)) == (True, False)
    finally:
        for journal in (after, killed, living):
            journal.close()
    assert names(tmp_path) == {killed.token}


def test_a_name_is_not_taken_by_a_file_that_was_just_removed(tmp_path, monkeypatch):
    """Who sweeps between opening it and locking it would have others take its owner for dead."""
    owners, swept = Owners(tmp_path), []

    def flock(fd, how):
        if not swept:
            swept.append((tmp_path / "mine.owner").unlink())
        fcntl.flock(fd, how)

    monkeypatch.setattr(owners_module, "fcntl", type("Locks", (), {**vars(fcntl), "flock": staticmethod(flock)}))
    assert not owners.take("mine")
    assert owners.take("mine")
    assert Owners(tmp_path).is_alive("mine")
    owners.give_up()
    assert names(tmp_path) == set()


def test_a_process_that_cannot_open_its_journal_keeps_nothing_of_it(tmp_path, monkeypatch, connections):
    """It tries again with each call, and would leave one more lock, and more connections, each time."""
    monkeypatch.setattr(Journal, "_files_there", lambda _self: (tmp_path / "nothing").stat())
    with pytest.raises(FileNotFoundError):
        Journal(tmp_path, lambda: "mine")
    assert names(tmp_path) == set()
    assert len(connections) == 2
    assert all(map(is_closed, connections))


async def test_a_damaged_journal_says_what_to_do(bench, tmp_path, connections):
    """It is no matter of rights: what is to be moved away is named, and what can still be got out of it."""
    users = Users(bench.cache(state_dir=tmp_path))
    users.put(1, "Eve")
    folder = users.cache.behind.open().folder
    users.cache.close()
    (folder / "writes.db").write_bytes(b"\xa5" * 8192)
    after = Users(bench.cache(state_dir=tmp_path))
    with pytest.raises(ConfigError, match=r"writes\.db-wal and writes\.db-shm out of .*\.recover") as caught:
        after.put(1, "Bob")
    assert caught.value.code == "SMW-C161"
    assert await after.read(1) == "?"
    assert all(map(is_closed, connections))


def test_what_fails_each_second_is_told_once(bench, tmp_path, monkeypatch, caplog):
    """A disk that stays full for a day fills no log; another failure, or the same after a success, is told again."""
    behind = bench.cache(state_dir=tmp_path).behind
    failing: list[Exception | None] = [sqlite3.OperationalError("database or disk is full")] * 3
    failing += [None, sqlite3.OperationalError("database or disk is full"), sqlite3.OperationalError("disk I/O error")]

    def tick():
        error = failing.pop(0)
        if error is not None:
            raise error

    monkeypatch.setattr(behind, "tick", tick)
    with caplog.at_level(logging.ERROR, logger="smw.cache"):
        for _ in range(6):
            behind._drainer._once()
    told = [str(record.exc_info[1]) for record in caplog.records]
    assert told == ["database or disk is full", "database or disk is full", "disk I/O error"]
