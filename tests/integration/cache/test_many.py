"""Many results at once over real servers: one question to Redis, one load, and what others drop meanwhile."""

from __future__ import annotations

import asyncio

import pytest
import redis

from smw.cache import Cache, get_many, get_many_sync

pytestmark = [pytest.mark.service("redis"), pytest.mark.service("memcached")]
LEVELS = [("l2",), ("l3",), ("l2", "l3")]
each_level = pytest.mark.parametrize("levels", LEVELS, ids=str)


class Users:
    """A process with the same function and method, async and blocking, that remembers what it loaded."""

    def __init__(self, cache: Cache, meanwhile=lambda: None) -> None:
        self.cache = cache
        self.asked: list[list[int]] = []

        def load(ids):
            self.asked.append(list(ids))
            meanwhile()
            return {number: {"id": number} for number in ids}

        async def later(ids):
            return await asyncio.to_thread(load, ids)

        class Shop:
            def __cache_key__(self) -> str:
                return "shop"

            @cache.cached(60, tags=["u:{number}"], version="m", many=lambda _self, ids: load(ids))
            def method(self, number: int) -> dict: ...

        options = {"tags": ["u:{number}"], "key": lambda number: number}
        self.later = cache.cached(60, many=later, **options)(_later)
        self.now = cache.cached(60, many=load, **options)(_now)
        self.method = Shop().method

    async def ask(self, shape: str, ids) -> list[int]:
        if shape == "async":
            found = await get_many(self.later, ids)
        else:
            found = await asyncio.to_thread(get_many_sync, self.now if shape == "sync" else self.method, ids)
        return [user["id"] for user in found]


async def _later(number: int) -> dict: ...


def _now(number: int) -> dict: ...


@each_level
@pytest.mark.parametrize("shape", ["sync", "async", "method"])
async def test_another_process_takes_all_it_can_from_the_servers(steady, shape, levels):
    """What one process has loaded at once another one finds; what it does not find it loads with one call."""
    one, two = Users(steady(*levels)), Users(steady(*levels))
    assert await one.ask(shape, range(50)) == list(range(50))
    assert await two.ask(shape, range(45, 60)) == list(range(45, 60))
    assert (one.asked, two.asked) == ([list(range(50))], [list(range(50, 60))])
    one.cache.drop_sync(tags=["u:3", "u:4"])
    three = Users(steady(*levels))
    assert await three.ask(shape, range(10)) == list(range(10))
    assert three.asked == [[3, 4]]
    for each in (one, two, three):
        await each.cache.aclose()


@each_level
@pytest.mark.parametrize("shape", ["sync", "async", "method"])
async def test_what_another_process_drops_during_the_load_is_not_kept(steady, shape, levels):
    """Of results loaded at once the one that was dropped elsewhere meanwhile is kept nowhere."""
    other = steady(*levels)
    one = Users(steady(*levels), lambda: other.drop_sync(tags=["u:2"]))
    assert await one.ask(shape, range(4)) == list(range(4))
    two = Users(steady(*levels))
    assert await two.ask(shape, range(4)) == list(range(4))
    assert two.asked == [[2]]
    for cache in (one.cache, two.cache):
        await cache.aclose()


@pytest.mark.parametrize("shape", ["sync", "async"])
async def test_redis_is_asked_once(steady, redis_server, shape):
    """A hundred results come from Redis with one MGET, or as many as its bound on names takes."""
    one, two = Users(steady("l2")), Users(steady("l2"))
    await one.ask(shape, range(100))
    await two.ask(shape, [0])
    with redis.Redis(host=redis_server.host, port=redis_server.port) as client:
        before = client.info("commandstats")["cmdstat_mget"]["calls"]
        await two.ask(shape, range(101))
        client.ping()
        after = client.info("commandstats")["cmdstat_mget"]["calls"]
    assert after - before == 2 + 1  # and the counters of the one that was loaded, which a script reads
    assert two.asked == [[100]]
    await one.cache.aclose(), await two.cache.aclose()
