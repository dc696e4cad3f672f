"""The cache over real Redis and memcached: three levels in one call, coroutines and blocking code, forks and loops."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid

import pytest
import redis

from smw import cache as cache_module
from smw.testing import isolated

pytestmark = [pytest.mark.service("redis"), pytest.mark.service("memcached")]
LEVELS = [("l2",), ("l3",), ("l2", "l3")]


class Source:
    """The origin: a value that changes, and a count of how often it was read."""

    def __init__(self) -> None:
        self.value = "old"
        self.reads = 0

    def read(self, user_id: int) -> dict:
        self.reads += 1
        return {"user": user_id, "value": self.value, "at": (1, 2)}


def loader(cache, source, mode, **options):
    if mode == "sync":

        def load(user_id: int) -> dict:
            return source.read(user_id)
    else:

        async def load(user_id: int) -> dict:
            await asyncio.sleep(0.01)
            return source.read(user_id)

    load.__qualname__ = "load"  # both modes are the same function to the servers
    return cache.cached(60, tags=["user", "user:{user_id}"], key=lambda user_id: user_id, **options)(load)


async def called(result):
    return await result if asyncio.iscoroutine(result) else result


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("modes", [("sync", "sync"), ("async", "async"), ("sync", "async"), ("async", "sync")])
async def test_processes_share_values_in_any_mode(steady, levels, modes):
    """What blocking code stored coroutines find, and the other way round."""
    source = Source()
    here, there = (loader(steady(*levels), source, mode) for mode in modes)
    first = await called(here(1))
    assert await called(there(1)) == first == {"user": 1, "value": "old", "at": (1, 2)}
    assert source.reads == 1
    assert cache_module.info(there).hits[levels[0]] == 1


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_drops_reach_every_process(steady, levels, mode):
    """After a drop by filled tag or key, in either mode, a new process loads again."""
    source = Source()
    cache = steady(*levels)
    load = loader(cache, source, mode)
    for value, how in (("a", {"tags": ["user:1"]}), ("b", {"keys": [cache_module.key_for(load, 1)]})):
        await called(load(1))
        source.value = value
        if mode == "sync":
            cache.drop_sync(**how)
        else:
            await cache.drop(**how)
        assert (await called(loader(steady(*levels), source, mode)(1)))["value"] == value
        assert (await called(load(1)))["value"] == value


@pytest.mark.parametrize("levels", LEVELS)
async def test_stampede_runs_once(steady, levels):
    """Two hundred coroutines and a cold key: one run."""
    source = Source()
    load = loader(steady(*levels), source, "async")
    results = await asyncio.gather(*(load(1) for _ in range(200)))
    assert source.reads == 1
    assert results == [results[0]] * 200


def test_threads_and_loops_run_once(steady):
    """Threads with blocking calls share one run and one set of connections."""
    source = Source()
    load = loader(steady("l2", "l3"), source, "sync")
    barrier = threading.Barrier(30)

    def work() -> None:
        barrier.wait()
        load(1)

    threads = [threading.Thread(target=work) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.reads == 1


def test_several_loops_one_after_the_other(steady):
    """Each `asyncio.run` gets connections of its own, and those of the last one are closed with it."""
    source = Source()
    load = loader(steady("l2", "l3", l1_size=0), source, "async")
    for _ in range(3):
        assert asyncio.run(load(1))["value"] == "old"
    assert source.reads == 1


def test_forked_child_uses_connections_of_its_own(steady):
    """Parent and child go on with their own values, side by side, after a fork in the middle of use."""
    source = Source()
    load = loader(steady("l2", "l3", l1_size=0), source, "sync")
    for number in range(8):
        load(number)
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            wrong = sum(load(number)["user"] != number for _ in range(50) for number in (2 * child, 2 * child + 1))
            os._exit(min(wrong, 255))
        children.append(pid)
    wrong = sum(load(number)["user"] != number for _ in range(50) for number in range(8))
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0, 0]
    assert wrong == 0
    assert source.reads == 8


def test_several_memcached_servers_share_the_keys(steady, service_factory):
    """Keys are spread over servers, and a drop by tag is told to each."""
    servers = [service_factory("memcached") for _ in range(3)]
    source = Source()
    options = {"l3_servers": [server.address for server in servers]}
    cache = steady(**options)
    load = loader(cache, source, "sync")
    for user in range(30):
        load(user)
    again = loader(steady(**options), source, "sync")
    for user in range(30):
        again(user)
    assert source.reads == 30
    cache.drop_sync(tags=["user"])
    last = loader(steady(**options), source, "sync")
    for user in range(30):
        last(user)
    assert source.reads == 60


def test_redis_holds_nothing_that_tells(steady, redis_server):
    """Keys in Redis carry neither arguments nor tags, every one of them ends, and sealed values tell nothing."""
    source = Source()
    source.value = "ann@example.org"
    cache = steady("l2", encryption_keys={"k": b"k" * 32})
    loader(cache, source, "sync")(4711)
    with redis.Redis.from_url(redis_server.url) as client:
        keys = [key for key in client.keys("*") if cache.settings.namespace.encode() in key]
        about = [key for key in keys if b":b:" in key]  # the number of the messages, and the server's own mark
        assert len(keys) - len(about) == 5, "the value, the fence of its key, and its three generations"
        assert all(b"4711" not in key and b"user" not in key for key in keys)
        assert all(client.pttl(key) > 0 for key in keys)
        assert all(b"example" not in client.get(key) for key in keys)


def test_values_end_in_redis_with_their_time(steady, redis_server):
    """`l2_ttl` and the time to live bound the life of the key itself."""
    cache = steady("l2", l2_ttl=5.0)
    key = cache_module.key_for(loader(cache, Source(), "sync"), 1)
    loader(cache, Source(), "sync")(1)
    with redis.Redis.from_url(redis_server.url) as client:
        assert 3000 < client.pttl(key) <= 5000


async def test_decorators_follow_the_runtime(redis_server, memcached_server):
    """Functions decorated at import use whatever runtime is current, blocking and awaiting."""

    @cache_module.cached(60, tags=["user"])
    def load(x: int) -> int:
        return x

    @cache_module.invalidate(tags=["user"])
    async def change() -> None: ...

    options = {"l2_url": redis_server.url, "l3_servers": memcached_server.address, "namespace": uuid.uuid4().hex}
    with isolated(cache=options):
        assert load(1) == load(1) == 1
        assert cache_module.info(load).levels == ("l1", "l2", "l3")
        await change()
        assert cache_module.info(load).entries == 0
        await cache_module.drop(tags=["user"])
        cache_module.drop_sync(tags=["user"])
    with isolated():
        assert load(1) == 1
        assert cache_module.info(load).levels == ("l1",)


async def test_region_over_real_servers(steady):
    """A region keeps values in every level, in both modes."""
    for levels in LEVELS:
        region = steady(*levels).region("web")
        await region.put("k", {"body": b"\x00", "status": 200}, 60, tags=["page"])
        assert await steady(*levels).region("web").get("k") == {"body": b"\x00", "status": 200}
        assert steady(*levels).region("web").get_sync("k") == {"body": b"\x00", "status": 200}
        await region.drop(tags=["page"])
        assert await steady(*levels).region("web").get("k") is None
