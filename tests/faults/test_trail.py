"""The audit log under SIGKILL, SIGTERM, fork, several processes and a file-size limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smw._kernel.host import Host
from smw.security.trail.files import open_store
from smw.security.trail.log import Trail
from smw.security.trail.verify import verify

WRITER = """
import os, sys, threading
from pathlib import Path
from smw._kernel.host import Host
from smw.security.trail.files import open_store
from smw.security.trail.log import Trail
trail = Trail(lambda: open_store(Path(sys.argv[1]), lambda: os.urandom(6), segment_bytes=20_000), host=Host("svc"))
def work(name):
    for n in range(1_000_000):
        try:
            trail.commit({"kind": "intent", "who": name, "n": n, "pad": "x" * 100}, "sync").send(None)
        except StopIteration:
            os.write(1, f"{name} {n}\\n".encode())
        trail.put({"kind": "outcome", "who": name})
for name in range(int(sys.argv[2])):
    threading.Thread(target=work, args=(name,), daemon=True).start()
threading.Event().wait(60)
"""


class Process:
    """A writer of its own; each line it prints is a record that it was told is durable."""

    def __init__(self, path: Path, *, threads: int) -> None:
        command = [sys.executable, "-c", WRITER, str(path), str(threads)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.seen: list[bytes] = []

    def await_records(self, count: int) -> None:
        assert self.process.stdout is not None
        self.seen += [self.process.stdout.readline() for _ in range(count)]

    def kill(self) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        with self.process:
            self.seen += self.process.stdout.read().splitlines(keepends=True)


def records_of(path: Path) -> list[dict]:
    return [json.loads(line) for file in sorted(path.rglob("*.jsonl")) for line in file.read_bytes().splitlines()]


@pytest.mark.parametrize("acknowledged", [1, 40, 400])
def test_sigkill_loses_no_acknowledged_record(tmp_path, acknowledged):
    """After SIGKILL in the middle of appends every record whose wait had ended is there, and the log goes on."""
    process = Process(tmp_path, threads=3)
    process.await_records(acknowledged)
    process.kill()
    trail = Trail(lambda: open_store(tmp_path, lambda: os.urandom(6)), host=Host("svc"))
    trail.put({"kind": "outcome"})
    trail.close()
    there = {(str(r["who"]), str(r["n"])) for r in records_of(tmp_path) if r["kind"] == "intent"}
    told = {tuple(line.decode().split()) for line in process.seen if line.endswith(b"\n")}
    assert len(told) >= acknowledged
    assert told <= there
    found = verify(tmp_path)
    assert found.status == "ok", str(found)
    assert len(found.logs) == 1


def test_killed_log_is_incomplete_never_tampered(tmp_path):
    """What SIGKILL leaves is at most incomplete: a crash is not called tampering."""
    process = Process(tmp_path, threads=2)
    process.await_records(50)
    process.kill()
    assert verify(tmp_path).status in {"ok", "incomplete"}, str(verify(tmp_path))


def test_processes_side_by_side_have_logs_of_their_own(tmp_path):
    """Several processes on one folder never mix their lines; each log verifies."""
    processes = [Process(tmp_path, threads=1) for _ in range(3)]
    for process in processes:
        process.await_records(20)
    for process in processes:
        process.kill()
    trails = [Trail(lambda: open_store(tmp_path, lambda: os.urandom(6)), host=Host("svc")) for _ in processes]
    for trail in trails:
        trail.put({"kind": "outcome"})
    for trail in trails:
        trail.close()
    found = verify(tmp_path)
    assert found.status == "ok", str(found)
    assert len(found.logs) == 3


FORK = """
import os, sys
from pathlib import Path
from smw.security import Security
part = Security(trail_dir=Path(sys.argv[1]), audit_level="LOW")
trail = part.trail
for n in range(200):
    trail.put({"kind": "outcome", "who": "parent", "n": n})
told, tell = os.pipe()
child = os.fork()
for n in range(200):
    trail.put({"kind": "outcome", "who": "child" if child == 0 else "parent after", "n": n})
if child == 0:
    os.write(tell, b"open")
else:
    os.read(told, 4)  # a log that was closed already would be the child's to continue
part.close()
if child == 0:
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""


def test_a_forked_child_opens_its_own_log(tmp_path):
    """Parent and child write on after a fork: two logs, no record twice, none lost, both verify."""
    subprocess.run([sys.executable, "-c", FORK, str(tmp_path)], check=True, timeout=30)
    found = verify(tmp_path)
    assert found.status == "ok", str(found)
    assert len(found.logs) == 2
    pairs = [(r["who"], r["n"]) for r in records_of(tmp_path) if r["kind"] == "outcome"]
    assert len(pairs) == len(set(pairs)) == 600


FULL = """
import os, resource, signal, sys
from pathlib import Path
from smw import errors
from smw.security import Security
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
part = Security(trail_dir=Path(sys.argv[1]), audit_level="HIGH", mode="enforce")
calls = []
@part.audit_log("write", keep=("n",))
def work(n):
    calls.append(n)
    return n
for n in range(20):
    work(n)
part.trail.checkpoint()
size = max(path.stat().st_size for path in Path(sys.argv[1]).rglob("*.jsonl"))
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
refused = 0
for n in range(20, 23):
    try:
        work(n)
    except errors.AuditUnavailable:
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(refused, len(calls))
part.close()
"""


def test_full_disk_denies_and_loses_nothing_acknowledged(tmp_path):
    """When the file may not grow, calls are refused before they run, and the log is whole once it may again."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], check=True, timeout=30, capture_output=True, text=True
    )
    assert done.stdout.split() == ["3", "20"]
    found = verify(tmp_path)
    assert found.status == "ok", str(found)
    kept = [r["args"]["n"] for r in records_of(tmp_path) if r["kind"] == "intent"]
    assert kept[:20] == list(range(20))


TERM = """
import asyncio, os, signal, sys
from pathlib import Path
from smw.security import Security
async def main():
    part = Security(trail_dir=Path(sys.argv[1]), audit_level="LOW")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    for n in range(500):
        part.trail.put({"kind": "outcome", "n": n})
    print("ready", flush=True)
    await stop.wait()
    await part.aclose()
asyncio.run(main())
"""


def test_sigterm_with_a_clean_shutdown_loses_nothing(tmp_path):
    """A service that closes its part on SIGTERM keeps even the buffered records, sealed."""
    process = subprocess.Popen([sys.executable, "-c", TERM, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()
    assert sum(r["kind"] == "outcome" for r in records_of(tmp_path)) == 500
    assert verify(tmp_path).status == "ok"
