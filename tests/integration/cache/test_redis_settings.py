"""How connections to a real Redis are set up, and what of the server's own settings is noticed."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid

import pytest

from smw import _redis
from smw.cache import Cache
from smw.cache.ports import StoreFailedError
from smw.cache.stores.redis import RedisStore
from smw.cache.stores.redis_lines import AwaitingLines, BlockingLines
from tests.integration.cache.test_servers import Source, called, loader
from tests.services.stopwatch import Stopwatch
from tests.services.topologies import ask

pytestmark = pytest.mark.service("redis")


@pytest.mark.parametrize("make", [_redis.blocking, _redis.awaiting])
@pytest.mark.parametrize(
    "url",
    ["redis://h", "rediss://h", "unix:///s", "redis+sentinel://h/m", "rediss+sentinel://h/m", "redis+cluster://h"],
)
def test_nothing_is_left_to_the_defaults_of_the_client(make, url):
    """Each kind of connection speaks RESP2, tries nothing again by itself, and has all its time-outs."""
    options = make(url, timeout_s=0.1).connection_pool.connection_kwargs
    assert options["protocol"] == 2
    assert options["retry"].get_retries() == 0
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 0.1


def test_a_url_may_say_otherwise():
    """Options of the URL win."""
    client = _redis.blocking("redis+sentinel://h/m/2?socket_timeout=3", timeout_s=0.1)
    assert client.connection_pool.connection_kwargs["socket_timeout"] == 3.0
    assert client.connection_pool.connection_kwargs["db"] == 2


def blocked(server):
    """Return how many clients of a server are waiting for something."""
    return ask(server, "INFO", "clients")["blocked_clients"]


@pytest.mark.timed
def test_a_wait_for_a_connection_ends_and_counts_as_lag(redis_server):
    """Where all connections are in use a blocking caller gives up in time, which is no fault of the server."""
    store = RedisStore(redis_server.url, timeout_s=1.0)
    lines = store._blocking = BlockingLines(_redis.blocking(redis_server.url, timeout_s=1.0), most=1, wait_s=0.05)
    before = blocked(redis_server)
    name = f"none{uuid.uuid4().hex}"
    holder = threading.Thread(target=lines.run, args=("BLPOP", name, "20"))
    holder.start()
    while blocked(redis_server) == before:
        time.sleep(0.001)
    watch = Stopwatch()
    with pytest.raises(StoreFailedError) as caught:
        store.probe()
    assert watch.took_s() < 0.3
    assert (caught.value.kind, caught.value.counts) == ("lag", True)
    ask(redis_server, "RPUSH", name, "x")
    holder.join()
    store.close()


@pytest.mark.timed
async def test_a_wait_of_a_coroutine_is_within_its_deadline(redis_server):
    """The same for coroutines, each by its own deadline."""
    lines = AwaitingLines(_redis.awaiting(redis_server.url, timeout_s=None), most=1)
    name, before = f"none{uuid.uuid4().hex}", blocked(redis_server)
    holder = asyncio.ensure_future(lines.run(20.0, "BLPOP", name, "20"))
    for _ in range(5000):
        if blocked(redis_server) != before:
            break
        await asyncio.sleep(0.001)
    watch = Stopwatch()
    with pytest.raises(TimeoutError):
        await lines.run(0.05, "PING")
    assert watch.took_s() < 0.3
    ask(redis_server, "RPUSH", name, "x")
    await holder
    assert await lines.run(1.0, "PING") == b"PONG"
    await lines.aclose()


@pytest.mark.parametrize(("policy", "warned"), [("volatile-random", True), ("volatile-lru", False)])
async def test_a_policy_that_evicts_at_random_is_warned_of_once(service_factory, mode, policy, warned, caplog):
    """A server that evicts counters like anything else is named when it has first answered, and not again."""
    server = service_factory("redis", "--maxmemory", "64mb", "--maxmemory-policy", policy)
    cache = Cache(namespace=uuid.uuid4().hex, l2_url=f"redis://:@127.0.0.1:{server.port}")
    load = loader(cache, Source(), mode, levels=("l2",))
    with caplog.at_level(logging.WARNING, "smw.cache"):
        for number in range(3):
            await called(load(number))
        for _ in range(2000 if warned else 100):
            if caplog.records:
                break
            await asyncio.sleep(0.002)
    said = [f"redis://127.0.0.1:{server.port} is set to {policy}" in record.getMessage() for record in caplog.records]
    assert said == ([True] if warned else [])
    await cache.aclose()
