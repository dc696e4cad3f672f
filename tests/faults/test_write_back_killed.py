"""Processes that acknowledge writes and are killed: all of it reaches the source, and never out of order."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def started(folder, mode):
    """Start one process."""
    command = [sys.executable, "-m", "tests.faults.write_back_worker", str(folder), mode]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def acknowledged(process, how):
    """End a process and return the writes that it had acknowledged: (key, began, ended)."""
    if how == "kill":
        process.send_signal(signal.SIGKILL)
    said, complaints = process.communicate("\n" if how == "line" else None, timeout=60)
    assert process.returncode == (-signal.SIGKILL if how == "kill" else 0), complaints
    whole = said[: said.rfind("\n") + 1]
    return [tuple(map(int, line.split())) for line in whole.splitlines()]


def check(folder, writes):
    """Compare the source with what was acknowledged: nothing that ended before another began may have outlived it."""
    drained = started(folder, "drain")
    assert acknowledged(drained, "wait") == []
    with sqlite3.connect(folder / "source.db") as source:
        found = dict(source.execute("SELECT key, began FROM found").fetchall())
    for key in range(5):
        own = [(began, ended) for other, began, ended in writes if other == key]
        ends = dict(own)
        last = max(began for began, _ in own)
        assert found[key] >= last or last <= ends.get(found[key], 0), (key, found[key], last)
    return found


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_what_was_acknowledged_survives_being_killed(tmp_path, mode):
    """A process that is killed again and again while it writes loses nothing that it has acknowledged."""
    writes, chance = [], random.Random(mode)
    for _ in range(3):
        process = started(tmp_path, mode)
        first = process.stdout.readline().split()
        writes.append(tuple(map(int, first)))
        time.sleep(0.05 + 0.4 * chance.random())
        writes += acknowledged(process, "kill")
    assert len(writes) > 40
    check(tmp_path, writes)
    with sqlite3.connect(tmp_path / "state" / "killed" / "writes.db") as journal:
        assert journal.execute("SELECT count(*) FROM dead").fetchone() == (0,)


def test_processes_that_share_a_folder(tmp_path):
    """Of two processes that write the same keys one is killed: the other takes over, and the last write wins."""
    one, other = started(tmp_path, "sync"), started(tmp_path, "sync")
    writes = [tuple(map(int, process.stdout.readline().split())) for process in (one, other)]
    time.sleep(0.8)
    writes += acknowledged(one, "kill")
    time.sleep(1.5)
    writes += acknowledged(other, "line")
    check(tmp_path, writes)
