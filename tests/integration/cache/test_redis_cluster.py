"""The cache over a real Redis cluster: shards on their nodes, what moves, what is lost, and what goes on."""

from __future__ import annotations

import asyncio
import os
import time
import uuid

import pytest

from smw import cache as cache_module
from smw._kernel.clock import SystemEntropy
from smw.cache import Cache
from smw.cache.coherence.wire import Wire
from smw.cache.stores.redis_cluster import Cluster
from tests.integration.cache.test_servers import Source, called, loader
from tests.services.stopwatch import Stopwatch
from tests.services.topologies import ask

CALL_S = 0.4
"""Of a quarter of a second, with what a busy machine adds."""
BACK_S = 2.0
PATIENT = {"budget_ms": 5000}
"""For tests in which no machine is too slow."""


@pytest.fixture
async def cache_at():
    """Make caches of one namespace."""
    namespace, made = f"t{uuid.uuid4().hex}", []

    def make(url, **options) -> Cache:
        made.append(Cache(namespace=namespace, l2_url=url, **options))
        return made[-1]

    yield make
    for cache in made:
        await cache.aclose()


def shard_of(cache, load, number):
    """Return the store that keeps the result of a call."""
    return cache._engine.remote.tiers[0].of(cache_module.key_for(load, number)).store


async def told(cache, levels=None):
    """Wait until every shard that answers has been told of the drops of a cache: a busy machine may be late."""
    levels = cache._engine.remote.servers if levels is None else levels
    for _ in range(500):
        if not any(level.debt for level in levels if not level.breaker.is_open):
            return
        await asyncio.sleep(0.01)
    pytest.fail("a node that answers was not told")


def numbers_on(cluster, cache, load, node, count=5):
    """Return arguments whose results a node keeps."""
    found = (n for n in range(10_000) if cluster.owner(shard_of(cache, load, n).tag) is node)
    return [next(found) for _ in range(count)]


@pytest.mark.parametrize("modes", [("sync", "async"), ("async", "sync")])
async def test_processes_share_values_in_any_mode(redis_cluster, cache_at, modes):
    """What one process has stored on any node another finds, and a drop in one is one in all."""
    source = Source()
    here, there = (loader(cache_at(redis_cluster.url, **PATIENT), source, mode, levels=("l2",)) for mode in modes)
    for number in range(40):
        await called(here(number))
    for number in range(40):
        assert (await called(there(number)))["user"] == number
    assert source.reads <= 50  # one that took too long on a busy machine was not stored
    source.value = "new"
    third = cache_at(redis_cluster.url, **PATIENT)
    await third.drop(tags=["user"])
    await told(third)
    assert {(await called(there(number)))["value"] for number in range(40)} == {"new"}
    source.value = "newer"
    third.drop_sync(keys=[cache_module.key_for(there, 7)])
    await told(third)
    assert (await called(here(7)))["value"] == "newer"
    assert "new" in {(await called(here(number)))["value"] for number in range(40)}


async def test_a_cluster_over_tls(redis_cluster, cache_at, mode):
    """Nodes that are found by what others say of them are asked over TLS, with the same authority."""
    source, cache = Source(), cache_at(redis_cluster.tls_url, **PATIENT)
    load = loader(cache, source, mode, levels=("l2",))
    for number in (*range(30), *range(30)):
        await called(load(number))
    assert source.reads <= 33  # a first handshake may take longer than a call is given
    ports = {place[1] for place in cache._engine.remote.tiers[0].of("k").store._cluster.at.values()}
    assert len(ports) == 3
    assert ports <= set(redis_cluster.tls_ports)


async def test_values_lie_on_every_node_with_their_counters(redis_cluster, cache_at):
    """Each master has a share of the values, and each value's counters lie in its slot."""
    cache = cache_at(redis_cluster.url, **PATIENT)
    load = loader(cache, Source(), "async", levels=("l2",))
    for node in redis_cluster.nodes[:2]:
        for number in numbers_on(redis_cluster, cache, load, node, 20):
            await load(number)
            store = shard_of(cache, load, number)
            assert ask(node, "EXISTS", store.named(cache_module.key_for(load, number))) == 1
            assert ask(node, "EXISTS", store.named(cache._names.everything)) == 1


def fork_and_call(load, number):
    """Return what a forked child is told, as its exit code."""
    child = os.fork()
    if child == 0:
        os._exit(0 if load(number)["user"] == number else 1)
    return os.waitpid(child, 0)[1]


def test_a_forked_child_has_connections_of_its_own(redis_cluster, cache_at):
    """Parent and child read on, each over its own connections."""
    load = loader(cache_at(redis_cluster.url, **PATIENT), Source(), "sync", levels=("l2",))
    for number in range(12):
        load(number)
    assert fork_and_call(load, 3) == 0
    assert [load(number)["user"] for number in range(12)] == list(range(12))


@pytest.mark.timed
async def test_a_killed_node_takes_its_own_keys_along(redis_cluster, cache_at):
    """Without a replica its keys are loaded, none late for long; other keys are hits; it is used again on return."""
    users = []
    for mode in ("sync", "async"):
        source, cache = Source(), cache_at(redis_cluster.url)
        users.append((cache, loader(cache, source, mode, levels=("l2",)), source))
    dead = redis_cluster.nodes[1]
    cache, load, _ = users[0]
    gone = numbers_on(redis_cluster, cache, load, dead)
    kept = numbers_on(redis_cluster, cache, load, redis_cluster.nodes[0])
    for _, load, _ in users:
        for number in (*gone, *kept):
            await called(load(number))
    dead.kill()
    for own, (cache, load, source) in zip(kept, users, strict=False):
        source.value = "new"
        watch = Stopwatch()
        for _ in range(4):
            for number in gone:
                assert (await called(load(number)))["value"] == "new"
        assert watch.took_s() < 3 * CALL_S
        reads = source.reads
        for number in kept[2:]:
            assert (await called(load(number)))["value"] == "old"
        assert source.reads == reads
        assert len(cache._engine.remote.servers) == 12
        assert 0 < sum(level.breaker.is_open for level in cache._engine.remote.servers) <= 4
        await cache.drop(tags=[f"user:{own}"])  # told to the living, owed to the dead
        assert (await called(load(own)))["value"] == "new"
        assert (await called(load(kept[2])))["value"] == "old"
    dead.start()
    watch = Stopwatch()
    for cache, load, source in users:
        while not all(cache.backends().values()) or any(level.debt for level in cache._engine.remote.servers):
            assert watch.took_s() < BACK_S + 3.0, "a master that was restarted waits two seconds"
            await asyncio.sleep(0.02)
        await called(load(gone[0]))
        reads = source.reads
        await called(load(gone[0]))
        assert source.reads == reads


@pytest.mark.timed
async def test_a_hung_node_costs_a_few_calls_their_budget(redis_cluster, cache_at, mode):
    """At most ten calls wait, none over a quarter of a second; drops return in time and reach the others."""
    cache, source = cache_at(redis_cluster.url), Source()
    load = loader(cache, source, mode, levels=("l2",))
    hung = redis_cluster.nodes[1]
    late = numbers_on(redis_cluster, cache, load, hung, 12)
    kept = numbers_on(redis_cluster, cache, load, redis_cluster.nodes[0])
    answering = [level for level in cache._engine.remote.servers if redis_cluster.owner(level.store.tag) is not hung]
    for number in (*late, *kept):
        await called(load(number))
    hung.pause()
    times = []
    for number in late * 2:
        watch = Stopwatch()
        assert (await called(load(number)))["user"] == number
        times.append(watch.took_s())
    assert sum(took > 0.09 for took in times) <= 10
    assert max(times) < CALL_S
    watch = Stopwatch()
    for number in kept:
        assert (await called(load(number)))["value"] == "old"
    assert watch.took_s() < CALL_S
    source.value = "new"
    watch = Stopwatch()
    await cache.drop(tags=["user"])
    assert watch.took_s() < CALL_S
    await told(cache, answering)
    other = loader(cache_at(redis_cluster.url), source, mode, levels=("l2",))
    assert {(await called(other(number)))["value"] for number in kept} == {"new"}
    hung.resume()


@pytest.mark.timed
async def test_a_replica_takes_over(redis_cluster, cache_at):
    """A master with a replica is killed: no call fails, the shards are found again, and what was lost is dropped."""
    users = []
    for mode in ("sync", "async"):
        source, cache = Source(), cache_at(redis_cluster.url)
        users.append((cache, loader(cache, source, mode, levels=("l2",)), source))
    dead = next(node for node in redis_cluster.nodes if ask(node, "INFO", "replication").get("connected_slaves"))
    cache, load, _ = users[0]
    numbers = numbers_on(redis_cluster, cache, load, dead)
    for _, load, _ in users:
        for number in numbers:
            await called(load(number))
    dead.kill()
    began, slowest = time.perf_counter(), 0.0
    while time.perf_counter() - began < 12.0:
        for _, load, source in users:
            source.value = "new"
            watch = Stopwatch()
            await called(load(numbers[0]))
            slowest = max(slowest, watch.took_s())
        if time.perf_counter() - began > 0.5 and all(all(cache.backends().values()) for cache, _, _ in users):
            break
        await asyncio.sleep(0.01)
    assert slowest < CALL_S
    for cache, load, source in users:
        assert all(cache.backends().values())
        for number in numbers:
            assert (await called(load(number)))["value"] == "new", "a new master may have lost drops"
        reads = source.reads
        for number in numbers:
            await called(load(number))
        assert source.reads == reads


async def test_a_slot_on_its_way_is_followed(redis_cluster, cache_at, mode):
    """While a slot is moved, what the old node has not any more is asked of the new one."""
    cluster = Cluster(redis_cluster.url, Wire("smw:m:t:*", SystemEntropy()), timeout_s=2.0)
    shard = cluster.shards[0]
    how = {"mode": mode, "timeout_s": 2.0}
    key, counter = f"k{uuid.uuid4().hex}", f"c{uuid.uuid4().hex}"
    await shard.open([counter], 60.0, **how)
    source = redis_cluster.owner(shard.tag)
    target = next(node for node in redis_cluster.nodes[:2] if node is not source)
    slot = int(ask(source, "CLUSTER", "KEYSLOT", shard.tag))
    ids = [ask(node, "CLUSTER", "MYID") for node in (source, target)]
    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    try:
        found = await shard.read(key, [], **how)  # neither has it: the old node sends us to the new one
        assert found.blob is None
        assert await shard.write(key, b"x", 60.0, counters=[], found=found, **how)
        assert (await shard.read(key, [], **how)).blob == b"x"
        assert cluster.at[shard.tag][1] == source.port
    finally:
        for node in (source, target):
            ask(node, "CLUSTER", "SETSLOT", slot, "STABLE")
    await shard.aclose()


async def test_reads_of_one_tick_travel_together(redis_cluster):
    """Reads that meet are one MGET for each slot; each gets its own values, a slot that has moved is followed."""
    cluster = Cluster(redis_cluster.url, Wire("smw:r:t:*", SystemEntropy()), timeout_s=2.0)
    how = {"mode": "async", "timeout_s": 2.0}
    prefix = uuid.uuid4().hex
    for number, shard in enumerate(cluster.shards):
        found = await shard.read(f"{prefix}{number}", [], **how)
        await shard.write(f"{prefix}{number}", b"%d" % number, 60.0, counters=[], found=found, **how)
    before = sum(gets(node) for node in redis_cluster.nodes)
    reads = [shard.read(f"{prefix}{number}", [], **how) for number, shard in enumerate(cluster.shards)]
    reads += [shard.read(f"{prefix}none", ["c"], **how) for shard in cluster.shards for _ in range(5)]
    found = await asyncio.gather(*reads)
    assert [each.blob for each in found] == [b"%d" % number for number in range(12)] + [None] * 60
    assert all(each.counters == (None,) for each in found[12:])
    assert sum(gets(node) for node in redis_cluster.nodes) - before <= 12 + 3
    wrong = next(place for place in cluster.at.values() if place != cluster.at[cluster.shards[0].tag])
    cluster.at[cluster.shards[0].tag] = wrong
    again = await asyncio.gather(*(shard.read(f"{prefix}{n}", [], **how) for n, shard in enumerate(cluster.shards)))
    assert [each.blob for each in again] == [b"%d" % number for number in range(12)]
    assert cluster.at[cluster.shards[0].tag] != wrong
    await cluster.shards[0].aclose()


def gets(node):
    """Return how many MGETs a node has answered."""
    return int(ask(node, "INFO", "commandstats").get("cmdstat_mget", {}).get("calls", 0))
