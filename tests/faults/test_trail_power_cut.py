"""The audit log after a power cut: what was not synced may be lost, kept or torn; acknowledged records are there."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from smw._kernel.host import Host
from smw.security.trail.files import FileStore
from smw.security.trail.log import Trail
from smw.security.trail.verify import verify

LOG = "0001-0123456789ab"


class Disk:
    """Remembers of every file what a power cut could not take any more."""

    def __init__(self, *, honest: bool = True) -> None:
        self.safe: dict[int, bytes] = {}
        self.honest = honest

    def sync(self, fd: int) -> None:
        os.fsync(fd)
        if self.honest:
            self.safe[os.fstat(fd).st_ino] = Path(f"/proc/self/fd/{fd}").read_bytes()


def outages(log: Path, disk: Disk):
    """Yield the files as they may be after a power cut now: the unsynced end lost, kept, or cut anywhere in between."""
    files: dict[str, tuple[bytes, bytes]] = {}
    # The checkpoint first: the writer may go on meanwhile, and what a checkpoint covers is in segments read after it.
    for path in sorted(log.iterdir(), key=lambda path: path.suffix == ".jsonl"):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            files[path.name] = disk.safe.get(os.fstat(file.fileno()).st_ino, b""), file.read()
    for share in (0.0, 0.3, 0.7, 1.0):
        yield {name: now[: len(safe) + int(share * (len(now) - len(safe)))] for name, (safe, now) in files.items()}


def acknowledged_and_states(folder: Path, disk: Disk, records: int):
    """Write records one by one; after each, yield how many are acknowledged and every state a power cut may leave."""
    trail = Trail(lambda: FileStore(folder / LOG, segment_bytes=700, sync=disk.sync), host=Host("svc"))
    for n in range(records):
        with pytest.raises(StopIteration):
            trail.commit({"kind": "intent", "n": n}, "sync").send(None)
        trail.put({"kind": "outcome"})
        if n % 3 == 2:
            trail.checkpoint()
        for state in outages(folder / LOG, disk):
            yield n + 1, state
    trail.close()


def survivors(state: dict[str, bytes], folder: Path) -> tuple[set[int], str]:
    """Start again from a state, and return the records that are there and what `verify` says then."""
    log = folder / LOG
    log.mkdir(parents=True)
    for name, content in state.items():
        (log / name).write_bytes(content)
    trail = Trail(lambda: FileStore(log), host=Host("svc"))
    trail.checkpoint()
    found = {record["n"] for record in trail.records() if record["kind"] == "intent"}
    trail.close()
    return found, verify(folder).status


def test_no_acknowledged_record_is_lost(tmp_path):
    """From every state that a power cut may leave, the log goes on with all acknowledged records and verifies."""
    states = 0
    for acknowledged, state in acknowledged_and_states(tmp_path / "run", Disk(), 12):
        states += 1
        found, status = survivors(state, tmp_path / f"cut-{states}")
        assert found >= set(range(acknowledged)), json.dumps(sorted(found))
        assert status == "ok"
    assert states == 48


def test_the_check_sees_a_disk_that_lies(tmp_path):
    """A disk that drops what it claimed to have synced loses records, and this test's method notices."""
    lost = 0
    for number, (acknowledged, state) in enumerate(acknowledged_and_states(tmp_path / "run", Disk(honest=False), 3)):
        try:
            found, _ = survivors(state, tmp_path / f"cut-{number}")
        except Exception:  # noqa: BLE001 - a log that does not even open has lost its records
            found = set()
        lost += not found >= set(range(acknowledged))
    assert lost
