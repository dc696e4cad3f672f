"""A process that is told to end while it records: every answer it gave has its record, and the log is whole."""

from __future__ import annotations

import json
import linecache
import os
import signal
import subprocess
import sys
import time

import pytest

from smw._kernel.host import Host
from smw.security.trail import log, writer
from smw.security.trail.files import open_store
from smw.security.trail.log import Trail
from smw.security.trail.verify import verify

BUSY = r"""
import os
import sys
import smw
from smw import security

smw.install_signal_handlers()
smw.configure("testing", security={"trail_dir": sys.argv[1], "audit_level": sys.argv[2]})


@security.audit_log("work", keep=["number"])
def work(number: int) -> int:
    return number


for number in range(10**9):
    os.write(1, b"%d\n" % work(number))
"""


def records(folder):
    """Return all records of the logs in a folder."""
    return [json.loads(line) for file in sorted(folder.rglob("*.jsonl")) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("level", ["LOW", "MEDIUM"])
def test_term_at_any_moment_loses_no_answer(tmp_path, level):
    """With the handlers installed even buffered records are there for every answer; the exit code names the signal."""
    for turn in range(6):
        folder = tmp_path / str(turn)
        command = [sys.executable, "-W", "error", "-c", BUSY, str(folder), level]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "0\n"
            time.sleep(0.003 + turn * 0.017)
            process.send_signal(signal.SIGTERM)
            answered, said = process.communicate(timeout=30)
        assert (process.returncode, said) == (143, "")
        found = records(folder)
        ended = [found[r["intent_seq"]] if "intent_seq" in r else r for r in found if r.get("result") == "ok"]
        recorded = {record["args"]["number"] for record in ended}
        assert [number for number in map(int, answered.split()) if number not in recorded] == []
        assert found[-1]["event"] == "closed"
        assert verify(folder).status == "ok"


def interrupting(step):
    """Return a trace function that raises KeyboardInterrupt before the n-th line of the log's own code.

    Lines that enter or leave a lock are passed over: locks are of C, so Python never interrupts them there.
    """
    left = step

    def trace(frame, event, _argument):
        nonlocal left
        code = frame.f_code
        if code.co_filename not in (log.__file__, writer.__file__) or code.co_name in ("_open", "_run", "_take"):
            return None
        line = linecache.getline(code.co_filename, frame.f_lineno).strip()
        if event == "line" and not line.startswith("with"):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    return trace


def test_an_interrupt_between_any_two_steps_leaves_no_gap(tmp_path):
    """Wherever an interrupt falls while a record is added, the next one follows without a gap and the log verifies."""
    trail = Trail(lambda: open_store(tmp_path, lambda: os.urandom(6)), host=Host("svc"))
    trail.put({"kind": "first"})
    falls = 0
    for step in range(1, 60):
        before = sys.gettrace()
        sys.settrace(interrupting(step))
        try:
            trail.put({"kind": "interrupted"})
        except KeyboardInterrupt:
            falls += 1
        finally:
            sys.settrace(before)
        trail.put({"kind": "next"})
    trail.close()
    assert 10 < falls < 59
    numbers = [record["seq"] for record in records(tmp_path)]
    assert numbers == list(range(len(numbers)))
    assert verify(tmp_path).status == "ok"
