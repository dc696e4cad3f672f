"""The servers that the tests rely on are real, private, can be hurt, and are gone afterwards."""

from __future__ import annotations

import os
import ssl
import struct
import subprocess
import sys
import time
from pathlib import Path

import pymemcache
import pytest
import redis

from tests.services import kafka
from tests.services.locate import Found, locate
from tests.services.places import ROOT
from tests.services.server import launch
from tests.services.specs import SPECS


def alive(pid):
    """Tell whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return sys.platform != "linux"


def ends(pid):
    """Tell whether a process ends within 10 s."""
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def test_redis_is_real(redis_server):
    """A value set in redis-server comes back, and the server is the process the fixture names."""
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.ping()
        assert client.set("services:a", b"1")
        assert client.get("services:a") == b"1"
        assert client.info("server")["process_id"] == redis_server.pid


def test_memcached_is_real(memcached_server):
    """A value set in memcached comes back, and the server is the process the fixture names."""
    client = pymemcache.Client((memcached_server.host, memcached_server.port), timeout=2)
    assert client.set("services_a", b"1", noreply=False)
    assert client.get("services_a") == b"1"
    assert client.stats()[b"pid"] == memcached_server.pid
    client.close()


def test_kafka_is_real(kafka_server):
    """A record sent to the broker comes back with its offset, from a topic that the broker made for it."""
    from kafka import KafkaConsumer, KafkaProducer

    producer = KafkaProducer(bootstrap_servers=kafka_server.url)
    assert producer.send("services", b"1").get(10).offset == 0
    producer.close()
    consumer = KafkaConsumer("services", bootstrap_servers=kafka_server.url, auto_offset_reset="earliest")
    (records,) = consumer.poll(timeout_ms=10_000).values()
    consumer.close()
    assert [record.value for record in records] == [b"1"]


def test_compose_runs_the_kafka_of_the_tests():
    """The image in compose.yaml has the version whose jars the tests fetch."""
    assert f"image: apache/kafka:{kafka.version()}\n" in (ROOT / "compose.yaml").read_text(encoding="utf-8")


def test_java_gets_the_authorities_that_python_trusts(tmp_path):
    """The list that an unpacked Java is given holds as many authorities as Python trusts, in Java's own format."""
    kafka._trust_store(tmp_path / "store")
    data = (tmp_path / "store").read_bytes()
    assert struct.unpack(">III", data[:12]) == (
        0xFEEDFEED,
        2,
        len(ssl.create_default_context().get_ca_certs(binary_form=True)),
    )


@pytest.mark.service("redis")
@pytest.mark.service("memcached")
@pytest.mark.parametrize("name", ["redis", "memcached"])
def test_a_paused_server_hangs_and_resumes(service_factory, name):
    """A paused server keeps its port open and says nothing; resumed, it answers what was asked meanwhile."""
    server = service_factory(name)
    server.pause()
    with pytest.raises(TimeoutError):
        server._ask(b"PING\r\n" if name == "redis" else b"version\r\n", timeout_s=0.2)
    server.resume()
    server.flush()


@pytest.mark.service("redis")
def test_a_server_restarts_on_its_port(service_factory):
    """A stopped server refuses connections; started again it listens where it was, empty."""
    server = service_factory("redis")
    first = server.pid
    with redis.Redis.from_url(server.url) as client:
        client.set("k", "v")
        server.stop()
        with pytest.raises(redis.ConnectionError):
            client.get("k")
        server.start()
        assert client.get("k") is None
    assert server.pid != first
    assert not alive(first)


@pytest.mark.service("memcached")
def test_a_closed_server_is_gone_even_when_paused(service_factory):
    """Closing ends the process by its id although it cannot run its own signal handler."""
    server = service_factory("memcached")
    pid = server.pid
    server.pause()
    started = time.monotonic()
    server.close()
    assert not alive(pid)
    assert time.monotonic() - started < 12


@pytest.mark.service("redis")
def test_private_servers_are_apart(service_factory):
    """Two servers of one test share neither port nor data, and take arguments of their own."""
    one, two = service_factory("redis"), service_factory("redis", "--maxmemory", "8mb")
    with redis.Redis.from_url(one.url) as a, redis.Redis.from_url(two.url) as b:
        a.set("k", "v")
        assert b.get("k") is None
        assert b.config_get("maxmemory")["maxmemory"] == str(8 * 1024 * 1024)


ORPHAN = """
import os, sys
from tests.services.locate import locate
from tests.services.server import launch
from tests.services.specs import SPECS
print(launch(SPECS["redis"], locate(SPECS["redis"], fetch=False)).pid, flush=True)
os._exit(1)
"""


@pytest.mark.service("redis")
def test_a_server_does_not_outlive_a_crashed_run(request):
    """A run that dies without any clean-up takes its servers with it."""
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN], cwd=request.config.rootpath, stdout=subprocess.PIPE, check=False
    )
    assert ends(int(done.stdout))


DOCKER = """#!/bin/sh
# Stands in for docker compose: keeps the arguments, and runs the server that the container would run.
echo "$SMW_REDIS_PORT $*" >> "$FAKE/calls"
case "$*" in
*" up "*) "$FAKE_SERVER" --port "$SMW_REDIS_PORT" --bind 127.0.0.1 --save "" --dir "$FAKE" \\
    --daemonize yes --pidfile "$FAKE/pid" > /dev/null;;
*" ps "*) echo box;;
inspect*) cat "$FAKE/pid";;
*" pause "*) kill -STOP "$(cat "$FAKE/pid")";;
*" unpause "*) kill -CONT "$(cat "$FAKE/pid")";;
*" stop "* | *" kill "* | *" down "*) [ ! -f "$FAKE/pid" ] || kill -KILL "$(cat "$FAKE/pid")"; rm -f "$FAKE/pid";;
esac
"""


@pytest.mark.service("redis")
def test_compose_is_driven_by_project_and_port(tmp_path, monkeypatch):
    """The way by docker compose uses a project and a port of its own and removes both; docker is played here."""
    real = locate(SPECS["redis"], fetch=False)
    if not real.program:
        pytest.skip("the stand-in for the container needs a redis-server of this machine")
    monkeypatch.setenv("FAKE_SERVER", str(real.program))
    for name, value in real.env.items():
        monkeypatch.setenv(name, value)
    docker = tmp_path / "docker"
    docker.write_text(DOCKER, encoding="utf-8")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("SMW_SERVICES", "compose")
    found = locate(SPECS["redis"], fetch=False)
    assert found == Found("compose")
    server = launch(SPECS["redis"], found)
    try:
        with redis.Redis.from_url(server.url) as client:
            assert client.info("server")["process_id"] == server.pid
        server.pause()
        with pytest.raises(TimeoutError):
            server._ask(b"PING\r\n", timeout_s=0.2)
        server.resume()
        pid = server.pid
    finally:
        server.close()
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert all(f"{server.port} compose -f " in call for call in calls if "up -d --wait redis" in call)
    assert any(call.endswith("down -v -t 2") for call in calls)
    assert ends(pid)


def test_an_uncounted_server_is_refused(service_factory):
    """A test that is not marked gets no server, so the table cannot miss it."""
    with pytest.raises(pytest.fail.Exception, match="mark this test"):
        service_factory("redis")
