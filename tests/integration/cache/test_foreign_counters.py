"""What somebody else writes in the place of one of our counters costs a load, and nothing after that."""

from __future__ import annotations

import asyncio
import inspect
import uuid

import pymemcache
import pytest
import redis

from smw.cache import Cache

RUBBISH = {
    "word": lambda client, name: client.set(name, "rubbish"),
    "empty": lambda client, name: client.set(name, ""),
    "negative": lambda client, name: client.set(name, "-5"),
    "huge": lambda client, name: client.set(name, "9" * 40),
    "list": lambda client, name: (client.delete(name), client.rpush(name, "x")),
}


def loader(cache, mode, runs, level, flight="fleet"):
    def load(number):
        runs.append(number)
        return {"number": number}

    async def aload(number):
        return load(number)

    options = {"tags": ["all"], "levels": (level,), "key": lambda number: number, "flight": flight}
    return cache.cached(60, **options)(load if mode == "sync" else aload)


async def called(result):
    return await result if inspect.isawaitable(result) else result


@pytest.mark.service("redis")
@pytest.mark.parametrize("flight", ["process", "fleet"])
@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
async def test_redis_has_its_counters_again_after_one_load(redis_server, mode, rubbish, flight):
    """Whichever counter it is: one load, no failure of the server, and a drop is still acknowledged."""
    namespace, runs = uuid.uuid4().hex, []
    cache = Cache(namespace=namespace, l2_url=redis_server.url, budget_ms=5000, jitter=0.0)
    client, load = redis.Redis.from_url(redis_server.url), loader(cache, mode, runs, "l2", flight)
    assert await called(load(1)) == {"number": 1}
    level = cache._engine.remote.servers[0]
    for name in [*client.scan_iter(f"smw:{namespace}:f:*"), *client.scan_iter(f"smw:{namespace}:t:*")]:
        runs.clear()
        rubbish(client, name)
        assert [await called(load(1)) for _ in range(3)] == [{"number": 1}] * 3
        assert runs == ([1] if b":t:" in name else [])  # a key that was dropped is not there: its fence is for writers
        runs.clear()
        rubbish(client, name)
        await cache.drop(tags=["all"])
        assert not level.debt
        await asyncio.sleep(0.002)  # what is made in the millisecond of a drop is taken for older
        assert [await called(load(1)) for _ in range(3)] == [{"number": 1}] * 3
        assert runs == [1]
    assert not level.errors
    client.close()
    await cache.aclose()


@pytest.mark.service("memcached")
async def test_memcached_has_its_counters_again_after_one_load(memcached_server, mode):
    """The same where memcached keeps the counters."""
    namespace, runs = uuid.uuid4().hex, []
    cache = Cache(namespace=namespace, l3_servers=[memcached_server.address], budget_ms=5000, jitter=0.0)
    client, load = pymemcache.Client((memcached_server.host, memcached_server.port)), loader(cache, mode, runs, "l3")
    assert await called(load(1)) == {"number": 1}
    level = cache._engine.remote.servers[0]
    everything = cache._names.everything
    for rubbish in (b"rubbish", b"", b"-5", b"f" * 40):
        runs.clear()
        client.set(everything, rubbish, noreply=False)
        assert [await called(load(1)) for _ in range(3)] == [{"number": 1}] * 3
        assert runs == [1]
    assert not level.errors
    client.close()
    await cache.aclose()


@pytest.mark.service("redis")
@pytest.mark.parametrize(
    ("rights", "named"),
    [
        (["+@all", "-eval", "-evalsha"], "has no permissions to run the 'evalsha' command"),
        (["+@all", "-set"], "The user executing the script can't run this command"),
        (["+@all", "resetkeys", "~other:*"], "one of the keys"),
    ],
    ids=["scripts", "command", "keys"],
)
async def test_a_permission_that_is_missing_is_named(redis_server, mode, rights, named, caplog):
    """Calls go on; once a minute the log says what the user may not do and where to mend it; no password is blamed."""
    namespace, runs, user = uuid.uuid4().hex, [], f"u{uuid.uuid4().hex}"
    admin = redis.Redis.from_url(redis_server.url)
    admin.execute_command("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", *rights)
    url = f"redis://{user}:secret@{redis_server.host}:{redis_server.port}/0"
    cache = Cache(namespace=namespace, l2_url=url, budget_ms=5000)
    load = loader(cache, mode, runs, "l2", "process")
    assert [await called(load(number)) for number in (1, 1, 2)] == [{"number": 1}, {"number": 1}, {"number": 2}]
    level = cache._engine.remote.servers[0]
    assert level.errors.keys() == {"permission"}
    assert not level.breaker.is_open
    said = [record.getMessage() for record in caplog.records if "refused a request" in record.getMessage()]
    assert len(said) == 1
    for part in (named, "permission: ", "ACL SETUSER", "CACHE_L2_URL"):
        assert part in said[0]
    assert "password" not in said[0]
    assert "secret" not in said[0]
    await cache.aclose()
    admin.execute_command("ACL", "DELUSER", user)
    admin.close()
