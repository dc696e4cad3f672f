"""Processes that add up the figures of many workers are killed at any moment: no count is lost or seen twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from smw.monitor import Monitor

COUNTS = """
import os, sys
from smw.monitor import Monitor

def count():
    monitor = Monitor(workers_dir=sys.argv[1])
    monitor._shared._workers.fold = lambda: None  # leaves the dead to those that are tested
    with monitor:
        monitor.http.started()
        for number in range(20):
            monitor.http.finished("GET", f"/r{number}", 200, 0.01)
        os._exit(0)

print("ready", flush=True)
sys.stdin.readline()  # until those that scrape do
children = []
for _ in range(3):
    children.append(os.fork())
    if not children[-1]:
        count()
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""
FOLDS = """
import sys
from smw.monitor import Monitor

print("ready", flush=True)
while True:
    monitor = Monitor(workers_dir=sys.argv[1]).open()
    for _ in range(20):
        monitor.exposition()
    monitor.close()
"""


def run(code, folder):
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd())


def total(monitor):
    text = monitor.exposition()[1].decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == "http_requests_total")


def test_scrapers_that_are_killed_at_any_moment_lose_nothing(tmp_path):
    """While two processes scrape and fold and are killed, every scrape shows exactly what has been counted."""
    chance = random.Random(7)
    expected = 0
    with Monitor(workers_dir=tmp_path) as monitor:
        for _ in range(6):
            counting, *scrapers = processes = [run(code, tmp_path) for code in (COUNTS, FOLDS, FOLDS)]
            for process in processes:
                assert process.stdout.readline() == b"ready\n"
            counting.communicate(b"go\n", timeout=60)
            assert counting.returncode == 0
            expected += 60
            for scraper in scrapers:
                time.sleep(chance.random() / 20)
                os.kill(scraper.pid, signal.SIGKILL)
                scraper.communicate(timeout=10)
                assert total(monitor) == expected
        assert total(monitor) == expected
        assert len(list(tmp_path.glob("*.cells"))) == 1
