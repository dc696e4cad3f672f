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

monitor = Monitor(workers_dir=sys.argv[1])
monitor._shared._workers.fold = lambda: None  # leaves the dead to those that are tested
with monitor:
    monitor.http.started()
    for number in range(20):
        monitor.http.finished("GET", f"/r{number}", 200, 0.01)
    os._exit(0)
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
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, cwd=Path.cwd())


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
            scrapers = [run(FOLDS, tmp_path) for _ in range(2)]
            for scraper in scrapers:
                assert scraper.stdout.readline() == b"ready\n"
            counting = [run(COUNTS, tmp_path) for _ in range(3)]
            for worker in counting:
                assert worker.wait(30) == 0
                worker.stdout.close()
            expected += 60
            for scraper in scrapers:
                time.sleep(chance.random() / 20)
                os.kill(scraper.pid, signal.SIGKILL)
                scraper.wait(10)
                scraper.stdout.close()
                assert total(monitor) == expected
        assert total(monitor) == expected
        assert len(list(tmp_path.glob("*.cells"))) == 1
