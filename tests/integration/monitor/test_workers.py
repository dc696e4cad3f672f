"""`/metrics` of real servers with several workers: sums over all of them, whichever answers and whichever is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.services import asking

APP = "tests.integration.monitor.worker_app:app"
SERVERS = {
    "gunicorn": ("gunicorn", "-w", "4", "-k", "uvicorn.workers.UvicornWorker", "-b", "127.0.0.1:{port}", APP),
    "gunicorn --preload": (
        "gunicorn", "--preload", "-w", "4", "-k", "uvicorn.workers.UvicornWorker", "-b", "127.0.0.1:{port}", APP,
    ),
    "uvicorn --workers": ("uvicorn", "--workers", "2", "--port", "{port}", APP),
}  # fmt: skip


def eventually(check, within_s=60.0):
    """Return what `check()` returns once that is true."""
    until = time.monotonic() + within_s
    while not (seen := check()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return seen


def sale(url):
    """Sell over a connection of its own, so that any worker may take it; return who did."""
    return asking.get(f"{url}/sale", timeout=20).json()


def scrape(url):
    """Return the samples that some worker shows."""
    text = asking.get(f"{url}/metrics", timeout=20).text
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextmanager
def served(command, folder):
    """Run a server with its workers; ends it as a supervisor would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    program = Path(sys.executable).parent / command[0]
    environ = {**os.environ, "MONITOR_WORKERS_DIR": str(folder), "SMW_PROFILE": "development"}
    arguments = [part.format(port=port) for part in command[1:]]
    server = subprocess.Popen(
        [str(program), *arguments],
        env=environ,
        cwd=Path.cwd(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers():
        assert server.poll() is None
        try:
            return asking.get(f"http://127.0.0.1:{port}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(answers)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(20)
        finally:
            server.kill()
            server.wait(5)


def sell(url, times):
    """Sell `times`, four at once; return the workers that took part."""
    with ThreadPoolExecutor(4) as pool:
        return set(pool.map(sale, [url] * times))


@pytest.mark.parametrize("server", SERVERS)
def test_sums_do_not_fall_when_workers_are_killed(server, tmp_path):
    """After each SIGKILL every scrape shows all requests, all sales, all lookups, and gauges of the living."""
    count = 4 if "gunicorn" in server else 2
    with served(SERVERS[server], tmp_path / "workers") as url:
        sold = 0
        eventually(lambda: len(list((tmp_path / "workers").glob("*.cells"))) >= count)
        for _ in range(3):
            pids = sell(url, 40)
            sold += 40
            assert scrape(url)["business_sold_total", "success"] == sold
            # Lookups are facts, which a worker publishes every second.
            eventually(
                lambda sold=sold: sum(v for k, v in scrape(url).items() if k[0] == "smw_cache_requests_total") == sold
            )
            os.kill(pids.pop(), signal.SIGKILL)
            for _ in range(5):
                seen = eventually(lambda: _scraped(url))
                assert seen["business_sold_total", "success"] == sold
                assert seen["http_requests_total", "GET", "/sale", "200"] == sold
                assert seen["http_request_duration_seconds_count", "GET", "/sale", "200"] == sold
                assert sum(v for k, v in seen.items() if k[0] == "smw_cache_requests_total") == sold
        assert len(list((tmp_path / "workers").glob("*.cells"))) <= count + ("--preload" in server)


def _scraped(url):
    """Scrape; None where the connection had been given to the worker that was killed."""
    try:
        return scrape(url)
    except httpx.TransportError:
        return None


def test_no_gauge_is_lost(tmp_path):
    """Connections in flight and memory are those of all four workers, whichever of them answers."""
    folder = tmp_path / "workers"
    with served(SERVERS["gunicorn"], folder) as url, ThreadPoolExecutor(8) as pool:
        eventually(lambda: len(list(folder.glob("*.cells"))) >= 4)
        waiting = [pool.submit(asking.get, f"{url}/wait", timeout=60) for _ in range(8)]
        eventually(lambda: scrape(url)["active_connections",] == 8)
        seen = scrape(url)
        memory = sum(psutil.Process(int(path.name.split("-")[0])).memory_info().rss for path in folder.glob("*.cells"))
        assert seen["memory_usage_bytes",] == pytest.approx(memory, rel=0.1)
        assert 0 < seen["cpu_usage_percent",] < 400
        (tmp_path / "go").touch()
        assert [future.result().status_code for future in waiting] == [200] * 8
        eventually(lambda: scrape(url)["active_connections",] == 0)
