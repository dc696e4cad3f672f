"""Requests over HTTP: ``wrk -t4 -c100 -d10s`` on ``/api/health`` of the example under uvicorn, one worker.

Every variant is a server of its own; wrk goes over them in turn, so that a busy moment hits them all. A run with an
answer other than 2xx counts for nothing: it fails.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from benchmarks._peers import optional
from benchmarks._served import PATH, VARIANTS
from benchmarks._table import Row, absent
from tests.services.places import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "wrk"
THREADS, CONNECTIONS = 4, 100
_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_P99 = re.compile(r"99%\s+([0-9.]+)(us|ms|s)\b")
_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@contextmanager
def served(name: str) -> Iterator[str]:
    """Run a variant under uvicorn and yield the URL; ended by its process id."""
    make, _ = VARIANTS[name]
    url = f"http://{HOST}:{(port := free_port())}{PATH}"
    command = [sys.executable, "-m", "uvicorn", "--factory", f"benchmarks._served:{make.__name__}", "--host", HOST]
    command += ["--port", str(port), "--workers", "1", "--log-level", "warning", "--no-access-log"]
    process = subprocess.Popen(command)
    try:
        _await(url, process)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                answer.read()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    message = f"{url} did not answer within 30 s"
    raise RuntimeError(message)


def once(url: str, seconds: int) -> tuple[float, float]:
    """Return requests a second and the p99 in milliseconds.

    Raises:
        RuntimeError: Something other than 2xx came back, or a socket failed.
    """
    command = ["wrk", f"-t{THREADS}", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", url]
    said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
    rate, late = _RATE.search(said), _P99.search(said)
    if rate is None or late is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return float(rate[1]), float(late[1]) * _MS[late[2]]


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - every benchmark has this signature
    """Measure every variant; without wrk or uvicorn they are listed."""
    seconds, rounds = (1, 1) if quick else (10, 2)
    task = f"wrk -t{THREADS} -c{CONNECTIONS} -d10s {PATH}, uvicorn, one worker"
    if shutil.which("wrk") is None or optional("uvicorn") is None:
        why = "no wrk on PATH" if optional("uvicorn") else "uvicorn is not installed"
        return [absent(task, name, why) for name in VARIANTS]
    rates: dict[str, list[float]] = {name: [] for name, (_, there) in VARIANTS.items() if there}
    p99s: dict[str, list[float]] = {name: [] for name in rates}
    with ExitStack() as stack:
        urls = {name: stack.enter_context(served(name)) for name in rates}
        for url in () if quick else urls.values():
            once(url, 1)  # warms up
        for _ in range(rounds):
            for name, url in urls.items():
                rate, p99 = once(url, seconds)
                rates[name].append(rate)
                p99s[name].append(p99)
    best = {name: statistics.median(each) for name, each in rates.items()}
    rows = [
        Row(task, name, best[name], "requests/s", best[name] / best["bare"])
        if name in best else absent(task, name)
        for name in VARIANTS
    ]  # fmt: skip
    return rows + [Row(f"{task}: p99", name, statistics.median(each), "ms") for name, each in p99s.items()]
