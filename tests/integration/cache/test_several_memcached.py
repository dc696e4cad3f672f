"""Three real memcached servers as one level: each has its own keys, and a sick one takes along no others."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict

import pytest

from smw import cache as cache_module
from smw.cache import Cache
from tests.integration.cache.test_redis_cluster import told
from tests.integration.cache.test_servers import Source, called, loader
from tests.services.stopwatch import Stopwatch

pytestmark = [pytest.mark.service("memcached"), pytest.mark.timed]
CALL_S = 0.4
"""Of a quarter of a second, with what a busy machine adds."""
BACK_S = 2.0


@pytest.fixture
def servers(service_factory):
    started = [service_factory("memcached") for _ in range(3)]
    yield started
    for server in started:
        server.kill()  # ending in order takes each of them a second


@pytest.fixture
async def shared(servers):
    """Make caches over the three alone."""
    namespace, made = f"t{uuid.uuid4().hex}", []

    def make() -> Cache:
        made.append(Cache(namespace=namespace, l3_servers=[server.address for server in servers]))
        return made[-1]

    yield make
    for cache in made:
        await cache.aclose()


def placed(cache, load, servers, count=6):
    """Return server → arguments whose results it keeps."""
    found = defaultdict(list)
    tier = cache._engine.remote.tiers[0]
    for number in range(400):
        name = tier.of(cache_module.key_for(load, number)).store.name
        server = next(server for server in servers if name.endswith(server.address))
        if len(found[server]) < count:
            found[server].append(number)
    return found


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_a_sick_server_of_three_takes_its_own_keys_along(servers, shared, mode, how):
    """Its keys are loaded in time, those of the others stay hits, drops reach the others, and it is used on return."""
    cache, source = shared(), Source()
    load = loader(cache, source, mode, levels=("l3",))
    keys = placed(cache, load, servers)
    sick, *well = servers
    for numbers in keys.values():
        for number in numbers:
            await called(load(number))
    getattr(sick, how)()
    ill = next(level for level in cache._engine.remote.servers if level.store.name.endswith(sick.address))
    count, slowest = 0, 0.0
    while count < 12 or not ill.breaker.is_open:
        assert count < 12 + ill.errors["lag"]  # cut off too late to speak against it, which was then asked aside
        number, watch = keys[sick][count % 6], Stopwatch()
        assert (await called(load(number)))["user"] == number
        count, slowest = count + 1, max(slowest, watch.took_s())
    assert slowest < CALL_S
    assert [name.endswith(sick.address) for name, is_well in cache.backends().items() if not is_well] == [True]
    reads = source.reads
    for server in well:
        for number in keys[server]:
            assert (await called(load(number)))["value"] == "old"
    assert source.reads == reads
    source.value = "new"
    watch = Stopwatch()
    await cache.drop(tags=[f"user:{keys[well[0]][0]}"])
    assert watch.took_s() < CALL_S
    await told(cache)
    other = loader(shared(), source, mode, levels=("l3",))
    assert (await called(other(keys[well[0]][0])))["value"] == "new"
    assert (await called(other(keys[well[1]][0])))["value"] == "old"
    sick.resume() if how == "pause" else sick.start()
    watch = Stopwatch()
    while not all(cache.backends().values()) or any(level.debt for level in cache._engine.remote.servers):
        assert watch.took_s() < BACK_S
        await asyncio.sleep(0.02)
    await called(load(keys[sick][0]))
    reads = source.reads
    await called(load(keys[sick][0]))
    assert source.reads == reads


async def test_a_tag_is_dropped_on_all_of_them(servers, shared, mode):
    """A drop by tag reaches the keys of every server, a drop by key those of one."""
    cache, source = shared(), Source()
    load, other = (loader(made, source, mode, levels=("l3",)) for made in (cache, shared()))
    keys = [numbers[0] for numbers in placed(cache, load, servers).values()]
    for number in keys:
        await called(load(number))
    source.value = "new"
    cache.drop_sync(keys=[cache_module.key_for(load, keys[1])])
    await told(cache)
    assert [(await called(other(number)))["value"] for number in keys] == ["old", "new", "old"]
    await cache.drop(tags=["user"])
    await told(cache)
    assert [(await called(other(number)))["value"] for number in keys] == ["new"] * 3
