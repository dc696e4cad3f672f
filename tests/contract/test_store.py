"""The stores of the cache pass the public suite: one in this process, real Redis and memcached."""

from __future__ import annotations

import asyncio

import pytest

from smw._kernel.clock import SystemClock, SystemEntropy
from smw.cache.coherence.wire import Wire
from smw.cache.stores.local import LocalStore
from smw.cache.stores.memcached import MemcachedStore
from smw.cache.stores.redis import RedisStore
from smw.cache.stores.redis_cluster import Cluster
from smw.testing.conformance import StoreConformance

NOBODY = "127.0.0.1:1"


def memcached_at(address):
    return MemcachedStore(address, timeout_s=2.0, clock=SystemClock(), entropy=SystemEntropy())


def shard_at(url):
    return Cluster(url, Wire("smw:contract:t:*", SystemEntropy()), timeout_s=2.0).shards[5]


class TestLocal(StoreConformance):
    """The store in this process."""

    @pytest.fixture
    def store(self):
        return LocalStore(clock=SystemClock())

    async def forget(self, kit, counter):
        del kit.store.counters[counter]


@pytest.mark.service("redis")
class TestRedis(StoreConformance):
    """Redis by redis-py."""

    @pytest.fixture
    def store(self, redis_server):
        return RedisStore(redis_server.url, timeout_s=2.0)

    @pytest.fixture
    def unreachable(self):
        return RedisStore(f"redis://{NOBODY}", timeout_s=2.0)

    async def forget(self, kit, counter):
        await kit.store._run(kit.mode, 2.0, "DEL", counter)


class TestRedisTls(TestRedis):
    """Redis by redis-py, over TLS."""

    test_time_to_live_ends = None  # a second each, and the server's own matter

    @pytest.fixture
    def store(self, redis_tls):
        return RedisStore(redis_tls.url(redis_tls.right), timeout_s=2.0)

    @pytest.fixture
    def unreachable(self):
        return RedisStore(f"rediss://{NOBODY}", timeout_s=2.0)


class TestRedisSentinel(TestRedis):
    """The master that Sentinels know."""

    test_time_to_live_ends = None

    @pytest.fixture
    def store(self, redis_sentinel):
        return RedisStore(redis_sentinel.url, timeout_s=2.0)

    @pytest.fixture
    def unreachable(self):
        return RedisStore(f"redis+sentinel://{NOBODY}/mymaster", timeout_s=2.0)


class TestRedisShard(TestRedis):
    """One shard of a cluster."""

    @pytest.fixture
    def store(self, redis_cluster):
        return shard_at(redis_cluster.url)

    @pytest.fixture
    def unreachable(self):
        return shard_at(f"redis+cluster://{NOBODY}")

    async def forget(self, kit, counter):
        await kit.store._run(kit.mode, 2.0, "DEL", kit.store.named(counter))


@pytest.mark.service("memcached")
class TestMemcached(StoreConformance):
    """Memcached by aiomcache and pymemcache."""

    @pytest.fixture
    def store(self, memcached_server):
        return memcached_at(memcached_server.address)

    @pytest.fixture
    def unreachable(self):
        return memcached_at(NOBODY)

    async def forget(self, kit, counter):
        token = (await kit.store._ask(kit.mode, 2.0, "gets_many", [counter]))[counter][1]
        await kit.store._ask(kit.mode, 2.0, "cas", counter, b"0", 1, token)
        for _ in range(60):
            if not await kit.store._ask(kit.mode, 2.0, "gets_many", [counter]):
                return
            await asyncio.sleep(0.05)
        pytest.fail("it outlived its time")
