"""Caches over the shared Redis and memcached, for tests in which each cache stands for a process."""

from __future__ import annotations

import uuid

import pytest

from smw.cache import Cache


@pytest.fixture(params=["sync", "async"])
def mode(request):
    """Whether the test calls from blocking code or awaits."""
    return request.param


@pytest.fixture
def service(redis_server, memcached_server):
    """Make caches of one service with a namespace that no other test has."""
    namespace = f"t{uuid.uuid4().hex}"
    servers = {"l2": {"l2_host": redis_server.url}, "l3": {"l3_servers": [memcached_server.address]}}
    made: list[Cache] = []

    def make(*levels: str, **options) -> Cache:
        at = {name: value for level in levels for name, value in servers[level].items()}
        made.append(Cache(**{"namespace": namespace, **at, **options}))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


@pytest.fixture
def steady(service):
    """Make such caches for which no machine is too slow, and whose results live as long as they are told to."""

    def make(*levels: str, **options) -> Cache:
        return service(*levels, **{"jitter": 0.0, "budget_ms": 5000, **options})

    return make
