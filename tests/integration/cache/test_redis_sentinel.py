"""The cache over a real master that Sentinels look after: commands find it, and find the next one after a fail-over."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
import uuid

import pytest

from smw import _redis
from smw.cache import Cache
from smw.cache.ports import StoreFailedError
from smw.pipeline.ports import Entry
from smw.pipeline.redis import RedisStream
from smw.testing import FakeClock
from tests.integration.cache.test_redis_cluster import told
from tests.integration.cache.test_redis_endings import to
from tests.integration.cache.test_servers import Source, called, loader
from tests.services.places import free_port
from tests.services.server import Server
from tests.services.stopwatch import Stopwatch
from tests.services.topologies import MASTER, SentinelRedis, ask, found_here, sentinel_spec

pytestmark = pytest.mark.timed  # each Sentinel has a twentieth of a second
BACK_S = 2.0
"""Of the second in which the breaker closes, with what a busy machine adds."""
CALL_S = 0.4
"""Of a quarter of a second, with what a busy machine adds."""


def cache_at(url, **options):
    return Cache(namespace=f"t{uuid.uuid4().hex}", l2_url=url, **options)


def patient(url):
    """Return a cache for which no machine is too slow."""
    return cache_at(url, budget_ms=5000)


@pytest.fixture
def own(pytestconfig):
    """Servers of the test's own, which it may hurt."""
    made = SentinelRedis(found_here(pytestconfig))
    yield made
    made.close()


async def test_commands_go_to_the_master(redis_sentinel, mode):
    """Values reach the master, whichever Sentinel answers, and drops are acknowledged by it."""
    source, cache = Source(), patient(redis_sentinel.url)
    load = loader(cache, source, mode, levels=("l2",))
    for _ in range(2):
        assert (await called(load(1)))["value"] == "old"
    assert source.reads == 1
    name = cache._names.everything
    assert ask(redis_sentinel.master, "EXISTS", name) == 1
    await cache.drop(tags=["user:1"])
    await told(cache)
    await cache.aclose()


@pytest.mark.parametrize("down", [1, 2])
async def test_sentinels_that_are_gone_are_passed_over(redis_sentinel, mode, down):
    """Addresses at which no Sentinel listens cost nothing but the attempt."""
    url = redis_sentinel.url.replace(
        "://", "://" + ",".join([f"127.0.0.1:{port}" for port in range(1, down + 1)]) + ","
    )
    source, cache = Source(), patient(url)
    load = loader(cache, source, mode, levels=("l2",))
    for _ in range(3):
        await called(load(1))
    assert source.reads <= 2
    assert cache.backends() == {"redis": True}
    await cache.aclose()


async def test_a_hung_sentinel_is_asked_once(own):
    """A Sentinel that does not answer costs at most one call its budget; the next one asks another."""
    own.sentinels[0].pause()
    for mode in ("sync", "async"):
        source, cache = Source(), cache_at(own.url)
        load = loader(cache, source, mode, levels=("l2",))
        watch = Stopwatch()
        for _ in range(6):
            await called(load(1))
        assert watch.took_s() < 2 * CALL_S
        assert source.reads <= 3
        assert cache.backends() == {"redis": True}
        await cache.aclose()
    own.sentinels[0].resume()


async def test_an_unknown_name_is_a_mistake_in_the_settings(redis_sentinel, mode, caplog):
    """A master of that name does not exist: one error names the known ones and the setting, and nobody waits."""
    cache = patient(redis_sentinel.url.replace(MASTER, "other"))
    with caplog.at_level(logging.ERROR, "smw"):
        await called(loader(cache, Source(), mode)(1))
    assert cache.backends() == {"redis": False}
    (record,) = caplog.records
    assert "'other'; they know: mymaster; correct the name of the master in CACHE_L2_URL" in record.getMessage()
    await cache.aclose()


@pytest.mark.parametrize("name", [MASTER, "other"])
async def test_nothing_stays_open_once_a_cache_is_closed(redis_sentinel, mode, name):
    """Neither to the master nor to a Sentinel, whether a master was found or not, nor by a thread that asks late."""
    servers = [redis_sentinel.master, *redis_sentinel.sentinels]
    before = set().union(*map(to, servers))
    cache = patient(redis_sentinel.url.replace(MASTER, name))
    await called(loader(cache, Source(), mode)(1))
    for _ in range(20 if name == "other" else 1000):  # where there is no master, the listener has looked for it
        if cache._listener.is_connected:
            break
        await asyncio.sleep(0.01)
    await cache.aclose()
    with contextlib.suppress(StoreFailedError):
        cache._engine.remote.servers[0].store.probe()
    assert set().union(*map(to, servers)) <= before


class User:
    """A process with blocking or awaiting callers."""

    def __init__(self, url, mode) -> None:
        self.source, self.cache, self.slowest = Source(), cache_at(url), 0.0
        self.load = loader(self.cache, self.source, mode, levels=("l2",))
        self.level = self.cache._engine.remote.servers[0]

    async def call(self, number):
        watch = Stopwatch()
        value = (await called(self.load(number)))["value"]
        self.slowest = max(self.slowest, watch.took_s())
        return value

    @property
    def is_well(self) -> bool:
        return not self.level.breaker.is_open and not self.level.debt


@pytest.fixture
async def users(own):
    made = [User(own.url, mode) for mode in ("sync", "async")]
    yield made
    for user in made:
        await user.cache.aclose()


async def test_fail_over_is_survived(own, users):
    """The master is killed: no call fails or is late; a second after another is known it is used and told."""
    for user in users:
        for number in range(5):
            await user.call(number)
    old, known = own.master, None
    old.kill()
    for user in users:
        user.source.value = "new"
        await user.cache.drop(tags=["user:1"])
    began = time.perf_counter()
    while time.perf_counter() - began < 15.0:
        assert [await user.call(1) for user in users] == ["new", "new"]
        if known is None and own.master is not old:
            known = Stopwatch()
        if known is not None and all(user.is_well for user in users):
            break
        await asyncio.sleep(0.01)
    assert known is not None
    assert known.took_s() < BACK_S
    for user in users:
        assert user.slowest < CALL_S
        await user.call(1)
        reads = user.source.reads
        assert [await user.call(1) for _ in range(3)] == ["new"] * 3
        assert user.source.reads == reads


async def test_connections_leave_a_master_that_steps_down(own, users):
    """Soon after an ordered fail-over nobody asks the old master any more, although it still believes to be one.

    Connections look for their master every second, and heartbeats go over theirs four times in one.
    """
    for user in users:
        await user.call(1)
    old = own.master
    ask(own.sentinels[0], "SENTINEL", "FAILOVER", MASTER)
    for _ in range(1000):
        if own.master is not old:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(2.0)
    for user in users:
        await user.call(1)
    before = commands(old)
    for user in users:
        await user.call(2)
        await user.cache.drop(tags=["user:2"])
        await told(user.cache)
        assert ask(own.master, "EXISTS", user.cache._names.everything) == 1
    assert commands(old) == before


def commands(server):
    """Return how often the commands of the cache were called."""
    stats = ask(server, "INFO", "commandstats")
    return [stats.get(f"cmdstat_{name}", {}).get("calls") for name in ("mget", "evalsha", "eval")]


async def test_sentinel_and_master_over_tls(redis_tls, pytestconfig, mode):
    """With ``rediss+sentinel://`` both speak TLS, and the same authority is trusted for both."""
    port = free_port()
    spec = sentinel_spec(redis_tls.tls_port, None, {port: "1" * 40})
    tls_port = free_port()
    tls = (*redis_tls.right.arguments(tls_port), "--tls-replication", "yes")
    sentinel = Server(spec, found_here(pytestconfig), *tls)
    sentinel.port = port
    sentinel.start()
    source = Source()
    caches = [
        patient(f"rediss+sentinel://127.0.0.1:{tls_port}/{MASTER}?ssl_ca_certs={trusted.ca}")
        for trusted in (redis_tls.right, redis_tls.wrong)
    ]
    good, bad = (loader(cache, source, mode, levels=("l2",)) for cache in caches)
    for _ in range(4):
        await called(good(1))
    assert source.reads <= 3  # a first handshake may take longer than a call is given
    for _ in range(8):
        await called(bad(1))
    assert [cache.backends()["redis"] for cache in caches] == [True, False]
    for cache in caches:
        await cache.aclose()
    sentinel.close()


async def test_sentinels_have_a_password_of_their_own(redis_sentinel, pytestconfig, mode, caplog):
    """The Sentinels' login is given to them and not to the master; a wrong one is a permanent failure."""
    port = free_port()
    spec = sentinel_spec(redis_sentinel.master.port, None, {port: "2" * 40})
    sentinel = Server(dataclasses.replace(spec, greeting=b"-NOAUTH"), found_here(pytestconfig), "--requirepass", "s3")
    sentinel.port = port
    sentinel.start()
    source, url = Source(), f"redis+sentinel://127.0.0.1:{port}/{MASTER}?sentinel_password="
    good, bad = (patient(url + password) for password in ("s3", "no"))
    for _ in range(3):
        await called(loader(good, source, mode, levels=("l2",))(1))
    assert source.reads <= 2
    with caplog.at_level(logging.ERROR, "smw"):
        await called(loader(bad, source, mode, levels=("l2",))(1))
    assert (good.backends(), bad.backends()) == ({"redis": True}, {"redis": False})
    assert "auth: correct user and password in CACHE_L2_URL" in caplog.text
    for cache in (good, bad):
        await cache.aclose()
    sentinel.close()


async def test_a_stream_finds_its_master(redis_sentinel):
    """Streams take the same URL."""
    stream = RedisStream(redis_sentinel.url, f"s{uuid.uuid4().hex}", group="g", consumer="c", clock=FakeClock())
    await stream.append([Entry(b"1")])
    (record,) = await stream.poll(10, 0.5)
    assert record.value == b"1"
    await stream.close()


def test_a_client_shows_where_it_leads_without_its_passwords(redis_sentinel):
    """Of the URL that is shown, logins and options are gone."""
    url = redis_sentinel.url.replace("://", "://user:hidden@") + "?sentinel_password=hidden"
    assert _redis.shown(url) == redis_sentinel.url
