"""`smw audit verify` on logs that a process wrote: its exit codes are what scripts rely on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smw.security import Security

SERVICE = """
import asyncio, sys
import smw
from smw import security

@smw.audit_log("user_data_access", subject="user_id", keep=("n",))
@smw.require_compliance(["GDPR"], purpose="play")
async def read(user_id, n):
    return n

async def main():
    play = {"basis": "contract", "classes": ["personal"]}
    catalogue = {"fields": {"user_id": "personal", "n": "public"}, "purposes": {"play": play}}
    async with smw.Runtime("production", service="music", security={"trail_dir": sys.argv[1], "catalogue": catalogue}):
        with security.acting("ada"):
            await asyncio.gather(*(read("eve", n) for n in range(100)))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trail")
    subprocess.run([sys.executable, "-c", SERVICE, str(folder)], check=True, timeout=60)
    return folder


def command(path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "smw", "audit", "verify", str(path), *more]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


def copied(log: Path, to: Path) -> Path:
    for file in log.rglob("*"):
        if file.is_file():
            target = to / file.relative_to(log)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return to


def test_untouched_log_exits_0(log):
    """The log of a service in production, as it was left, is ok."""
    done = command(log)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok; 202 records in 1 log" in done.stdout.replace("\n", " ")


def test_flipped_bit_and_dropped_line_exit_1(log, tmp_path):
    """One flipped bit, and a dropped last line, are both found."""
    flipped = copied(log, tmp_path / "flipped")
    segment = max(flipped.rglob("*.jsonl"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    assert command(flipped).returncode == 1
    dropped = copied(log, tmp_path / "dropped")
    segment = max(dropped.rglob("*.jsonl"))
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:-1]))
    assert command(dropped).returncode == 1


def test_torn_tail_exits_2(log, tmp_path):
    """What a crash leaves is incomplete, not tampered."""
    running = Security(trail_dir=copied(log, tmp_path / "running"))
    running.trail.checkpoint()
    torn = copied(tmp_path / "running", tmp_path / "torn")
    running.close()
    with max(torn.rglob("*.jsonl")).open("ab") as file:
        file.write(b'{"torn')
    assert command(torn).returncode == 2
    assert command(tmp_path / "none").returncode == 2


def test_rollback_exits_1_only_against_a_kept_checkpoint(log, tmp_path):
    """Rolling back log and checkpoint together shows against a checkpoint that was kept elsewhere, and only there."""
    grown = copied(log, tmp_path / "grown")
    part = Security(trail_dir=grown)
    part.trail.put({"kind": "outcome"})
    (tmp_path / "kept").write_text(part.trail.checkpoint())
    part.close()
    assert command(grown, "--since", str(tmp_path / "kept")).returncode == 0
    assert command(log).returncode == 0
    assert command(log, "--since", str(tmp_path / "kept")).returncode == 1
