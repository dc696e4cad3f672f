"""The servers that the tests rely on are real, private, can be hurt, and are gone afterwards."""

from __future__ import annotations

import os
import time

import pymemcache
import pytest
import redis


def alive(pid):
    """Tell whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


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


def test_an_uncounted_server_is_refused(service_factory):
    """A test that is not marked gets no server, so the table cannot miss it."""
    with pytest.raises(pytest.fail.Exception, match="mark this test"):
        service_factory("redis")
