"""Closing the connections of blocking callers: a socket that a thread reads from keeps its number until it is done."""

from __future__ import annotations

import threading

import psutil
import pytest
import redis

from smw import _redis
from smw._kernel.clock import SystemClock, SystemEntropy
from smw.cache.stores.memcached import MemcachedStore
from smw.cache.stores.redis import RedisStore
from smw.cache.stores.redis_lines import BlockingLines


@pytest.fixture(params=["plain", "tls"])
def client(request, redis_server, redis_tls):
    """Return a client over each kind of socket."""
    url = redis_server.url if request.param == "plain" else redis_tls.url(redis_tls.right)
    made = _redis.blocking(url, timeout_s=5, max_connections=2)
    yield made
    made.connection_pool.disconnect()


@pytest.mark.service("redis")
def test_a_connection_in_use_is_hung_up_and_keeps_its_socket(client):
    """Another connection cannot get the number of its file, its encryption stays, and its reader hears the end."""
    pool = client.connection_pool
    line = pool.get_connection()
    sock = line._sock
    encryption = getattr(sock, "_sslobj", None)
    pool.disconnect()
    assert sock.fileno() >= 0
    assert getattr(sock, "_sslobj", None) is encryption
    with pytest.raises(redis.ConnectionError):
        line.read_response()
    assert sock.fileno() == -1
    pool.release(line)
    assert client.ping()


@pytest.mark.service("redis")
def test_free_connections_are_closed(client):
    """What nobody uses is closed by the one who ends the pool, which goes on making connections."""
    pool = client.connection_pool
    line = pool.get_connection()
    sock = line._sock
    pool.release(line)
    pool.disconnect()
    assert sock.fileno() == -1
    assert client.ping()


@pytest.mark.service("redis")
def test_a_blocking_reader_fails_at_once_and_idle_lines_are_closed(client):
    """Lines that are closed leave the one that waits for its reply to its own thread, and close the others."""
    lines = BlockingLines(client, most=2, wait_s=1)
    assert lines.run("PING") == b"PONG"
    idle = [line._sock for line in client.connection_pool._connections]
    line = client.connection_pool.get_connection()
    asked = line._sock
    failures, started = [], threading.Event()

    def wait():
        started.set()
        try:
            lines._ask(line, ("BLPOP", "nothing", "60"), None)
        except redis.ConnectionError as error:
            failures.append(error)

    reader = threading.Thread(target=wait)
    reader.start()
    assert started.wait(5)
    lines.close()
    reader.join(10)
    assert not reader.is_alive()
    assert len(failures) == 1
    assert [sock.fileno() for sock in [*idle, asked]] == [-1, -1]
    assert lines.run("PING") == b"PONG"


def to(server):
    """Return where this process is connected to a server from."""
    every = psutil.Process().net_connections("tcp")
    return {each.laddr for each in every if each.raddr and each.raddr.port == server.port}


@pytest.mark.parametrize("kind", ["redis", "memcached"])
def test_a_store_that_is_closed_leaves_no_connection(kind, redis_server, memcached_server):
    """A thread that was about to ask when the cache was closed has its answer, and nothing stays open."""
    if kind == "redis":
        server, store = redis_server, RedisStore(redis_server.url, timeout_s=5)
    else:
        server, how = memcached_server, {"clock": SystemClock(), "entropy": SystemEntropy()}
        store = MemcachedStore(server.address, timeout_s=5, **how)
    before = to(server)
    store.probe()
    assert len(to(server) - before) == 1
    store.close()
    store.probe()
    store.figures()
    assert to(server) <= before


def test_a_caller_that_is_hung_up_at_the_end_leaves_no_connection(redis_server):
    """It asks once more, as where its connection had gone stale, and that one is closed as well."""
    lines = BlockingLines(_redis.blocking(redis_server.url, timeout_s=5, max_connections=2), most=2, wait_s=1)
    before, asked = to(redis_server), lines._ask
    assert lines.run("PING") == b"PONG"

    def hung_up(line, *what):
        lines._ask = asked
        lines.end()
        return asked(line, *what)

    lines._ask = hung_up
    assert lines.run("PING") == b"PONG"
    assert to(redis_server) <= before
