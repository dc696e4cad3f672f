"""Servers behind names: a name server that hangs costs a blocking caller its time-out, and every address is tried."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from smw._kernel import lookup
from smw.cache import Cache

NAME = "server.test"


@pytest.fixture
def names(monkeypatch):
    """Answer for one name: what is in the list, once it is let."""
    asked, gate, real = [], threading.Event(), socket.getaddrinfo

    def getaddrinfo(host, port, *more):
        if host != NAME:
            return real(host, port, *more)
        assert gate.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in asked]

    monkeypatch.setattr(lookup.socket, "getaddrinfo", getaddrinfo)
    yield asked, gate
    gate.set()


@pytest.mark.service("redis", "memcached")
@pytest.mark.parametrize("level", ["l2", "l3"])
def test_a_name_that_is_not_found_keeps_nobody(names, level, redis_server, memcached_server):
    """Callers wait for their budget, five times at most; the server is used once its name is found."""
    addresses, gate = names
    settings = {
        "l2": {"l2_url": f"redis://{NAME}:{redis_server.port}/0"},
        "l3": {"l3_servers": [f"{NAME}:{memcached_server.port}"]},
    }
    with_servers = Cache(namespace=f"names-{time.time_ns()}", budget_ms=200, **settings[level])
    loaded = with_servers.cached(60)(_double)
    began = time.monotonic()
    assert [loaded(number) for number in range(8)] == [number * 2 for number in range(8)]
    assert time.monotonic() - began < 10
    assert list(with_servers.backends().values()) == [False]
    if level == "l2":
        addresses.append("127.255.255.1")  # where nobody listens
    addresses.append("127.0.0.1")
    gate.set()
    until = time.monotonic() + 20
    while not all(with_servers.backends().values()) and time.monotonic() < until:
        time.sleep(0.01)
    assert all(with_servers.backends().values())
    assert loaded(100) == 200
    with_servers.close()


def _double(number: int) -> int:
    return number * 2
