"""The decorators outside of web applications, run for real: right results, computed once, recorded, cleanly ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import redis

from smw.security import verify

ROOT = Path(__file__).parents[3]
OURS = re.compile(r"(SMW_|CACHE_|PIPELINE_|SECURITY_|MONITOR_|OTEL_|JAEGER_|PROMETHEUS_|CELERY_|RQ_).*")
PLAIN = {
    "script": ("script",),
    "event loops": ("loops",),
    "threads": ("threads",),
    "forked processes": ("processes", "fork"),
    "spawned processes": ("processes", "spawn"),
}
CELERY = ("celery", "-A", "examples.workers.celery_tasks", "worker", "-c", "2", "--without-gossip", "--without-mingle")
RQ = ("rq.cli", "worker", "-w", "examples.workers.rq_jobs.Worker")


class Started:
    """A process whose output goes into files; leaving it ends whatever is left of its group."""

    def __init__(self, command, env, file):
        self._out, self._errors = file.with_suffix(".out"), file.with_suffix(".err")
        with self._out.open("w") as out, self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=out, stderr=errors, start_new_session=True
            )

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def errors(self):
        """Return what it wrote to its standard error."""
        return self._errors.read_text()

    def values(self):
        """Return the values that it has printed so far, in whole lines."""
        return [json.loads(line) for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, count):
        """Wait until it has printed so many values."""
        for _ in range(3000):
            if len(self.values()) >= count:
                return
            assert self.process.poll() is None, self.errors()
            time.sleep(0.02)
        raise AssertionError(self.errors())

    def term(self):
        """Tell it to end, as an operator does."""
        self.process.send_signal(signal.SIGTERM)

    def term_at_work(self):
        """Tell it to end while it waits for a process that it has started."""
        seen = psutil.Process(self.process.pid)
        for _ in range(3000):
            self.process.send_signal(signal.SIGSTOP)
            while seen.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                time.sleep(0.001)
            is_at_work = any(child.status() != psutil.STATUS_ZOMBIE for child in seen.children())
            if is_at_work:
                self.term()
            self.process.send_signal(signal.SIGCONT)
            if is_at_work:
                return
            time.sleep(0.005)
        raise AssertionError(self.errors())

    def wait(self, timeout):
        """Return its exit code."""
        return self.process.wait(timeout)


class Place:
    """A folder for the audit log and the settings of a production service that buffers its records."""

    def __init__(self, folder):
        self.trail = folder / "audit"
        self.redis = ""
        self._started = 0

    def start(self, *command, warnings="error"):
        """Start a Python module in a process group of its own."""
        env = {name: value for name, value in os.environ.items() if not OURS.fullmatch(name)}
        env |= {
            "SMW_PROFILE": "production",
            "SECURITY_AUDIT_LEVEL": "LOW",  # buffered: only a clean stop saves the last records
            "SECURITY_CATALOGUE": str(ROOT / "examples" / "music_agent" / "catalogue.toml"),
            "SECURITY_TRAIL_DIR": str(self.trail),
            "MONITOR_LOGS": "off",
        }
        if self.redis:
            env |= {"CACHE_L2_URL": self.redis, "RQ_REDIS_URL": self.redis, "CACHE_NAMESPACE": self.trail.parent.name}
        self._started += 1
        return Started([sys.executable, "-W", warnings, "-m", *command], env, self.trail.parent / str(self._started))

    def run(self, *command):
        """Run an example to its end and return the values that it printed."""
        with self.start(*command) as process:
            assert (process.wait(120), process.errors()) == (0, "")
            return process.values()

    def logs(self):
        """Return the records of each log."""
        files = sorted(self.trail.rglob("*.jsonl"))
        return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]

    def check(self, values):
        """Every value that was handed out has its record; all logs verify and were closed in order."""
        records = [record for log in self.logs() for record in log]
        recorded = Counter(record["resource"] for record in records if record.get("result") == "ok")
        answered = Counter(f"playlist:{value['id']}" for value in values)
        assert {name: count for name, count in answered.items() if recorded[name] < count} == {}
        assert [log[-1].get("event") for log in self.logs()] == ["closed"] * len(self.logs())
        assert verify(self.trail).status == "ok"


@pytest.fixture
def place(tmp_path):
    """A place without servers."""
    return Place(tmp_path)


def playlists(printed):
    """Return the playlists among printed values, in order."""
    flat = [value for line in printed for value in (line if isinstance(line, list) else [line])]
    return [value for value in flat if "id" in value]


def runs(values):
    """Return for each playlist the set of computations that its values came from."""
    found = {}
    for value in values:
        found.setdefault(value["id"], set()).add((value["pid"], value["run"]))
    return found


def test_a_script(place):
    """The second call is answered from the cache, the one after the invalidation is not; stream and batch work."""
    *lines, rest = place.run("examples.workers.script", "3")
    for first, again, after in lines:
        assert first == again
        assert after["run"] == first["run"] + 1
    assert rest == {"plays": {"So What": 2}, "minutes": [{"track": "So What", "minutes": 9.1}]}
    place.check(playlists(lines))


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with Redis"])
def test_event_loops_one_after_the_other(place, shared, request):
    """Twenty tasks share one computation; the second loop finds it, and computes only what was dropped."""
    if shared:
        place.redis = request.getfixturevalue("redis_server").url
    *_, rest = printed = place.run("examples.workers.loops", "3")
    values = playlists(printed)
    assert [len(value) for value in printed if isinstance(value, list)] == [20] * 6
    assert {name: len(found) for name, found in runs(values).items()} == {"p0": 1, "p1": 1, "p2": 2}
    assert rest == {"plays": {"So What": 4}}
    place.check(values)


def test_threads(place):
    """Eight threads that ask at once share one computation and one audit log."""
    values = playlists(place.run("examples.workers.threads", "20"))
    assert Counter(value["id"] for value in values) == {f"p{number}": 8 for number in range(20)}
    assert {name: len(found) for name, found in runs(values).items()} == {f"p{number}": 1 for number in range(20)}
    assert len(place.logs()) == 1
    place.check(values)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(place, method):
    """Without a server every process has its own cache and computes once at most; all their records are kept."""
    values = playlists(place.run("examples.workers.processes", method, "5"))
    assert Counter(value["id"] for value in values) == {f"p{number}": 5 for number in range(5)}
    for found in runs(values).values():
        assert len(found) == len({pid for pid, _ in found}) <= 3
    assert len(place.logs()) > 1
    place.check(values)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_with_redis(place, method, redis_server):
    """With Redis the pool finds what its parent has computed, over connections of its own."""
    place.redis = redis_server.url
    values = playlists(place.run("examples.workers.processes", method, "5"))
    assert {name: len(found) for name, found in runs(values).items()} == {f"p{number}": 1 for number in range(5)}
    place.check(values)


def told_to_end(place, command, lines):
    """Run an example until it has printed so many lines, send TERM, and return the playlists that it handed out."""
    with place.start(*command) as process:
        process.wait_for(lines)
        process.term()
        assert process.wait(60) == 128 + signal.SIGTERM
        assert process.errors() == ""
        return playlists(process.values())


@pytest.mark.parametrize("example", PLAIN)
def test_term_in_the_middle(place, example):
    """TERM ends it long before its work is done; what it handed out until then is recorded, all logs are closed."""
    name, *arguments = PLAIN[example]
    values = told_to_end(place, (f"examples.workers.{name}", *arguments, "3000"), 40)
    assert len(values) >= 40
    assert "p2999" not in {value["id"] for value in values}
    place.check(values)


def queue(name, place, count, worker, waiting):
    """Send work, stop the worker in the middle of it, let another one finish; return what came back.

    RQ is told to end while it waits, first for a process and then for a job: whatever else it does is broken off by
    TERM, and where that is an answer of Redis, the next one is taken for the rest of it.
    """
    with (
        redis.Redis.from_url(place.redis) as server,
        place.start(f"examples.workers.{name}", str(count), warnings="default") as client,
    ):
        with place.start(*worker, warnings="default") as process:
            client.wait_for(5)
            process.term_at_work() if worker is RQ else process.term()
            assert process.wait(60) == 0, process.errors()
        assert server.llen(waiting) > 0, "the worker had done everything before it was stopped"
        with place.start(*worker, warnings="default") as process:
            assert client.wait(120) == 0, client.errors() + process.errors()
            for _ in range(6000 if worker is RQ else 0):
                if server.info("clients")["blocked_clients"]:
                    break
                time.sleep(0.005)
            process.term()
            assert process.wait(60) == 0, process.errors()
        return client.values()


@pytest.mark.service("redis")
@pytest.mark.parametrize(
    ("name", "worker", "waiting", "count", "most"),
    [
        pytest.param("celery_tasks", CELERY, "celery", 100, 2, id="Celery"),
        pytest.param("rq_jobs", RQ, "rq:queue:default", 12, 1, id="RQ"),
    ],
)
def test_queues_of_tasks(place, service_factory, *, name, worker, waiting, count, most):
    """A worker that is stopped in the middle loses nothing: results are right, shared by Redis, and recorded."""
    place.redis = service_factory("redis").url
    values = queue(name, place, count, worker, waiting)
    assert [value["id"] for value in values] == [f"p{number}" for number in range(count) for _ in range(2)]
    assert max(len(found) for found in runs(values).values()) <= most, "as many compute at once as there are processes"
    place.check(values)
