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
        writes += [tuple(map(int, process.stdout.readline().split())) for _ in range(15)]
        time.sleep(0.05 + 0.4 * chance.random())
        writes += acknowledged(process, "kill")
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


FULL = r"""
import os, resource, signal, sys
from pathlib import Path
from smw.cache import Cache

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes beyond the limit fail, as they do on a full disk
cache, source, down = Cache(state_dir=Path(sys.argv[1]), namespace="full"), {}, [True]


@cache.cached(60)
def get(key: int) -> bytes:
    return b""


@cache.writes(get, strategy="write_back", value=lambda result, arguments: arguments["data"])
def put(key: int, data: bytes) -> None:
    if down[0]:
        raise ConnectionError
    source[key] = data


def ends(key: int) -> str:
    data = os.urandom(20_000)
    try:
        put(key, data)
    except ConnectionError:
        return "refused"
    return "written" if source.get(key) == data else "acknowledged"


put(0, b"")
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, -1))
ended = {key: ends(key) for key in range(1, 30)}
down[0] = False
ended |= {key: ends(key) for key in range(30, 40)}
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
cache.close()
assert set(ended.values()) == {"acknowledged", "refused", "written"}, ended
assert sorted(source) == [0, *(key for key, end in ended.items() if end != "refused")], ended
"""


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path):
    """What the journal cannot take goes to the source, whose error reaches the caller; what it took comes later."""
    command = [sys.executable, "-W", "error", "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "the journal does not take writes of __main__:put" in done.stderr
