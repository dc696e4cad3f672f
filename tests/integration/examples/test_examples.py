"""What a reader would run first runs: every script, and the demo with and without real servers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis

ROOT = Path(__file__).parents[3]
OURS = re.compile(r"(SMW_|CACHE_|PIPELINE_|SECURITY_|MONITOR_|OTEL_|JAEGER_|PROMETHEUS_).*")
SCRIPTS = sorted(path.stem for path in (ROOT / "examples").glob("[!_]*.py"))
QUICK = ("--requests", "240", "--events", "60", "--plain")
SAID = {
    "audit_and_compliance": ["denied by gdpr.purpose", "allowed: {'id': 'u1'", "ok; "],
    "batch_of_files": ["10000", "first row:"],
    "cached_function": ["first call", "after dropping the tag: [\"u1's favourites\", 'late night jazz']"],
    "fastapi_app": ['http_requests_total{method="GET",route="/playlists/{user_id}",status="200"}', "computed"],
    "flask_app": ['http_requests_total{method="GET",route="/playlists/<user_id>",status="200"}', "computed"],
    "stream_of_events": ["'So What': 2", "dead"],
}


def run(module, *arguments, **settings):
    """Run an example in a process of its own, untouched by the settings of this machine, and return what it did."""
    env = {name: value for name, value in os.environ.items() if not OURS.fullmatch(name)}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=env | settings, capture_output=True, text=True, timeout=120, check=False
    )


def seconds(output):
    """Return how long the demo says it took."""
    return float(re.search(r"(\d+) s in all", output)[1])


def tiers(output):
    """Return the percentage of hits of each cache level that the demo printed for the time after the restart."""
    return {level: float(last) for level, last in re.findall(r"^(L\d) .*%.*?([\d.]+)%", output, re.MULTILINE)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_runs_and_says_what_it_promises(script):
    """Each small example runs as it stands and prints what it is about."""
    done = run(f"examples.{script}")
    assert done.returncode == 0, done.stderr
    assert [words for words in SAID[script] if words not in done.stdout] == [], done.stdout
    assert "Traceback" not in done.stderr


def test_demo_runs_without_any_server():
    """The demo keeps all its promises on the embedded default, and its traffic generator needs no file."""
    done = run("examples.music_agent.demo", *QUICK, SMW_ACCESS_LOG="no such file")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert "generated (Zipf)" in done.stdout
    assert seconds(done.stdout) < 60
    assert tiers(done.stdout).keys() == {"L1"}
    assert done.stderr == ""


def test_the_flask_twin_keeps_the_same_promises_on_an_access_log(tmp_path):
    """Flask under waitress: the same answers, spans, records and events.

    Visits are read from an access log where there is one, lines of another form are left out.
    """
    lines = [
        f'198.51.100.{n % 40} - - [17/May/2015:10:05:03 +0000] "GET /page/{n % 60}?a=1 HTTP/1.1" 200 20 "-" "x"\n'
        for n in range(200)
    ]
    log = tmp_path / "access.log"
    log.write_text("not a line of a log\n" + "".join(lines))
    done = run("examples.music_agent.demo", *QUICK, "--flask", SMW_ACCESS_LOG=str(log))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert "Flask under waitress" in done.stdout
    assert "access.log (real)" in done.stdout
    assert tiers(done.stdout).keys() == {"L1"}
    assert done.stderr == ""


@pytest.mark.parametrize("more", [[], ["--flask"]], ids=["FastAPI", "Flask"])
def test_demo_uses_the_servers_it_is_given(redis_server, memcached_server, more):
    """With Redis and memcached named, their levels answer after a restart, when the memory of the service is empty.

    What is left on a shared Redis carries the demo's own prefix and expires by itself.
    """
    servers = {"CACHE_L2_URL": redis_server.url, "CACHE_L3_SERVERS": memcached_server.address}
    with redis.Redis.from_url(redis_server.url) as client:
        before = set(client.keys("*"))
        done = run("examples.music_agent.demo", *QUICK, *more, **servers)
        left = set(client.keys("*")) - before
        assert done.returncode == 0, done.stdout + done.stderr
        assert left
        assert [key for key in left if b"music-agent-" not in key or client.ttl(key) < 0] == []
    ratios = tiers(done.stdout)
    assert ratios.keys() == {"L1", "L2", "L3"}
    assert min(ratios.values()) > 0
    assert redis_server.address in done.stdout


def test_demo_says_which_server_is_missing():
    """A server that is named but not there ends the demo at once with the variable that names it."""
    done = run("examples.music_agent.demo", *QUICK, CACHE_L2_URL="redis://127.0.0.1:1", CACHE_L3_SERVERS="127.0.0.1:1")
    assert done.returncode == 2
    assert "CACHE_L2_URL names 127.0.0.1:1" in done.stderr
    assert "CACHE_L3_SERVERS names 127.0.0.1:1" in done.stderr
