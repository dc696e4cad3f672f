"""What importing costs: fresh interpreters, median of seven, the bare interpreter subtracted; peers beside."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks._table import Row

NAME = "imports"
ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 7
SMW = {
    "import smw": "import smw",
    "the eight decorators": (
        "from smw import cached, invalidate, trace, track_business_metric\n"
        "from smw import require_compliance, audit_log, stream_process, batch_transform"
    ),
    "a module with one decorated function": "from smw import cached\n@cached(ttl=60)\ndef f(x: int) -> int: return x",
}
PEERS = ("cachetools", "dogpile.cache", "aiocache", "cashews", "prometheus_fastapi_instrumentator", "redis")
PROBE = "import sys\nfrom time import perf_counter\nstarted = perf_counter()\n{}\nprint(perf_counter() - started)"


def _environment() -> dict[str, str]:
    """Let the byte code be written and found, as it is for an installed package."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _started(code: str) -> tuple[float, float]:
    """Run code in a fresh interpreter; return the milliseconds of the whole process and of the code alone."""
    begun = time.perf_counter()
    command = [sys.executable, "-c", PROBE.format(code)]
    done = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True)
    return (time.perf_counter() - begun) * 1000, float(done.stdout.split()[-1]) * 1000


def _medians(codes: dict[str, str], rounds: int) -> dict[str, tuple[float, float]]:
    """Measure in turn, so that a slow moment of the machine strikes everyone alike."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in codes}
    for code in codes.values():
        _started(code)  # writes the byte code
    for _ in range(rounds):
        for name, code in codes.items():
            taken[name].append(_started(code))
    return {
        name: (statistics.median(p for p, _ in pairs), statistics.median(c for _, c in pairs))
        for name, pairs in taken.items()
    }


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - every benchmark has this signature
    """Measure smw's own imports against their budgets, and print the peers' beside."""
    peers = {name: f"import {name}" for name in PEERS if importlib.util.find_spec(name.partition(".")[0])}
    codes = {
        "bare": "pass",
        **SMW,
        "import wrapt": "import wrapt",
        **{f"import {name}": c for name, c in peers.items()},
    }
    taken = _medians(codes, 3 if quick else ROUNDS)
    wrapt_ms = taken["import wrapt"][1]
    task = "import time, fresh interpreter"
    targets = {"import smw": "<= 10 ms", "a module with one decorated function": f"<= {wrapt_ms + 20:.1f} ms"}
    rows = [Row(task, name, taken[name][1], "ms", None, targets.get(name)) for name in codes if name != "bare"]
    whole_ms = taken["import smw"][0] - taken["bare"][0]
    return [*rows, Row("whole process over the bare interpreter", "import smw", max(0.0, whole_ms), "ms")]
