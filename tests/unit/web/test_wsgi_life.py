"""The life of the runtime and of streams behind WSGI, whose servers say neither when they start nor when they stop."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smw import pipeline
from smw._kernel import current
from smw.errors import ConfigError
from smw.runtime import Runtime
from smw.starting import imported
from smw.testing import isolated
from smw.web import MonitoringMiddleware, PipelineMiddleware, create_pipeline_middleware
from tests.contract.worlds import environ_of, metric

handled: list[int] = []


@pipeline.stream_process("wsgi_in_app")
async def handle(event: dict) -> None:
    """Keep what came."""
    handled.append(event["n"])


def emitting(environ, start_response):
    pipeline.emit_sync("wsgi_in_app", {"n": int(environ["QUERY_STRING"])})
    start_response("200 OK", [])
    return []


def ask(app, target="/"):
    def start_response(_status, _headers, _exc_info=None):
        return None

    result = app(environ_of("GET", target), start_response)
    try:
        return b"".join(result)
    finally:
        if hasattr(result, "close"):
            result.close()


def eventually(check):
    until = time.monotonic() + 10
    while not check():
        assert time.monotonic() < until
        time.sleep(0.005)


FIRST_REQUEST = """
import sys
from smw import cache
from smw._kernel import current
from smw.web import MonitoringMiddleware
from tests.contract.worlds import environ_of

@cache.cached(ttl=60)
def price(sku):
    return len(sku)

def app(_environ, start_response):
    start_response("200 OK", [])
    return [b"%d" % price("tea")]

wrapped = MonitoringMiddleware(app)
assert current.get() is None
before = {*sys.modules}
print(b"".join(wrapped(environ_of("GET", "/"), lambda *_: None)))
print(sorted({name for name in {*sys.modules} - before if name.startswith(("smw.cache", "redis", "pymemcache"))}))
"""


def test_the_first_request_finds_the_clients_imported():
    """Where the environment alone configures a worker; its servers may be away, and nothing is opened before."""
    told = {"SMW_SERVICE": "shop", "CACHE_L2_URL": "redis://127.0.0.1:1/0", "CACHE_L3_SERVERS": "127.0.0.1:1"}
    script = [sys.executable, "-c", FIRST_REQUEST]
    done = subprocess.run(script, capture_output=True, text=True, check=True, env=os.environ | told)
    assert done.stdout.splitlines() == ["b'3'", "[]"]


def test_what_is_wrong_with_the_environment_is_told_to_who_opens(monkeypatch):
    """An application may yet be configured otherwise when it is wrapped."""
    monkeypatch.setenv("CACHE_L1_SIZE", "many")
    before = current.use(None)
    imported.cache_clear()
    try:
        app = MonitoringMiddleware(emitting)
        with pytest.raises(ConfigError, match="CACHE_L1_SIZE"):
            ask(app)
    finally:
        current.use(before)


def test_the_runtime_opens_with_the_first_request():
    """Until then nothing is read or connected, so that a server may import the application before it forks."""
    runtime = Runtime("testing", environ={})
    before = current.use(runtime)
    try:
        app = MonitoringMiddleware(emitting)
        assert not runtime.is_open
        ask(app, "/health")
        assert runtime.is_open
    finally:
        current.use(before)
        runtime.close()


def test_streams_are_served_from_the_first_request_on():
    """In the process of the application, beside the threads that answer."""
    handled.clear()
    app = MonitoringMiddleware(create_pipeline_middleware(in_app=("wsgi_in_app",))(emitting))
    with isolated() as runtime:
        for number in range(3):
            ask(app, f"/?{number}")
        eventually(lambda: len(handled) == 3)
        assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): 3.0}
    assert handled == [0, 1, 2]


def test_a_new_runtime_gets_streams_of_its_own():
    """The workers of the one before have ended with it."""
    handled.clear()
    app = create_pipeline_middleware(in_app=("wsgi_in_app",))(emitting)
    for number in range(2):
        with isolated():
            ask(app, f"/?{number}")
            eventually(lambda number=number: handled == list(range(number + 1)))


def test_a_stream_that_nobody_handles_fails_every_request():
    """There is no startup that could fail, so the first request says it, and the next one too."""
    app = PipelineMiddleware(emitting, in_app=["wsgi_in_ap"])
    with isolated():
        for _ in range(2):
            with pytest.raises(ConfigError, match="wsgi_in_ap"):
                ask(app)


PROGRAM = """
import atexit, os, sys, time
DONE = []
first = os.getpid()
atexit.register(lambda: print("parent" if os.getpid() == first else "child", sorted(DONE), flush=True))
import smw  # what it does at the exit comes before what was registered first
from smw import pipeline
from smw.web import MonitoringMiddleware, create_pipeline_middleware
from tests.unit.web.test_wsgi_life import ask

@pipeline.stream_process("jobs")
{kind} work(event: dict) -> None:
    DONE.append(event["n"])
    if {slow}:
        time.sleep(0.01)

def app(environ, start_response):
    pipeline.emit_sync("jobs", {{"n": int(environ["QUERY_STRING"])}})
    start_response("200 OK", [])
    return []

smw.configure("testing")
app = MonitoringMiddleware(create_pipeline_middleware(in_app=("jobs",))(app))
"""


def run(program, *, kind="async def", slow=False):
    """Run a program and return the lines it printed."""
    source = PROGRAM.format(kind=kind, slow=slow) + program
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source], env=environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_what_waits_at_the_exit_is_handled_first(kind):
    """In-memory records are gone with the process, so it takes its leave of them; blocking handlers too."""
    lines = run("for n in range(50): ask(app, f'/?{n}')\n", kind=kind, slow=True)
    assert lines == [f"parent {list(range(50))}"]


def test_a_forked_child_serves_for_itself():
    """A server that forks after the first request has workers that work, and each cleans up its own."""
    lines = run(
        "ask(app, '/?1')\n"
        "while not DONE: time.sleep(0.01)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    ask(app, '/?2')\n"
        "    sys.exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "ask(app, '/?3')\n"
    )
    assert sorted(lines) == ["child [1, 2]", "parent [1, 3]"]
