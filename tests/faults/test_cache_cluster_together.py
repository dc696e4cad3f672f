"""Processes over a real Redis cluster hear each other's drops, and load for each other, whatever becomes of nodes."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import Counter

import pytest

from smw import cache as cache_module
from smw.cache import Cache, get_many_sync
from tests.faults.test_cache_backplane import LONG_MS, until
from tests.services.stopwatch import Stopwatch
from tests.services.topologies import ask

pytestmark = [pytest.mark.service("redis"), pytest.mark.timed]
KEYS = range(30)
SEEN_S = 5.0
"""Long for a busy machine, and short beside the trust that a message ends."""


class Node:
    """A cache as one process has it; what it reads is one value for all keys."""

    def __init__(self, url: str, namespace: str, source: list[int], trust_ms: int, load=lambda: None) -> None:
        self.cache = Cache(namespace=namespace, l2_url=url, l1_trust_ms=trust_ms, budget_ms=1000)
        self.plane = self.cache._engine.backplane
        self.listener = self.cache._listener
        self.loads: list[int] = []

        def many(keys):
            self.loads.extend(keys)
            load()
            return [source[0]] * len(keys)

        def read(key: int) -> int:
            return many([key])[0]

        read.__qualname__ = "read"
        keyed = self.cache.cached(300, tags=["n", "n:{key}"], key=lambda key: key)
        self.read = keyed(read)
        self.many = self.cache.cached(300, tags=["n"], key=lambda key: key, version="m", many=many)(_many)

    def ready(self) -> Node:
        """Return once memory answers by what is heard from all shards."""
        self.read(0)
        until(lambda: all(plane.standing[1] > 0 for plane in self.plane.planes.values()))
        time.sleep(0.01)
        self.cache._engine.missed()
        return self

    def all(self) -> set[int]:
        return {self.read(key) for key in KEYS}


def _many(key: int) -> int: ...


@pytest.fixture
def source():
    return [1]


@pytest.fixture
def nodes(redis_cluster, source):
    """Make so many caches of one namespace, which trust their memory for a minute."""
    namespace, made = f"t{uuid.uuid4().hex}", []

    def make(count: int, trust_ms: int = LONG_MS, **options) -> list[Node]:
        new = [Node(redis_cluster.url, namespace, source, trust_ms, **options) for _ in range(count)]
        made.extend(new)
        for node in new:
            node.ready()
        return new

    yield make
    for node in made:
        node.cache.close()


def test_drops_are_told_over_a_cluster(nodes, source):
    """A tag that is dropped is gone from the memory of others in every shard, and a key from its own."""
    here, there = nodes(2)
    assert there.all() == here.all() == {1}
    source[0] = 2
    here.cache.drop_sync(tags=["n"])
    until(lambda: there.all() == {2}, SEEN_S)
    until(lambda: there.plane.messages == 12)  # each shard has told it
    there.all()
    source[0] = 3
    here.cache.drop_sync(keys=[cache_module.key_for(there.read, 7)])
    until(lambda: there.read(7) == 3, SEEN_S)
    assert {there.read(key) for key in KEYS if key != 7} == {2}
    assert here.plane.gaps == there.plane.gaps == 0


def test_memory_is_trusted_by_what_all_shards_tell(nodes):
    """Memory goes on answering while nothing is dropped, and a drop of one process is no gap for another."""
    here, there = nodes(2, trust_ms=400)
    there.all()
    loads, ends = len(there.loads), time.monotonic() + 1.2
    while time.monotonic() < ends:
        there.all()
        here.cache.drop_sync(tags=["elsewhere"])
        time.sleep(0.02)
    assert len(there.loads) == loads
    assert there.plane.gaps == 0


def test_a_message_of_one_shard_that_is_lost_empties_memory(nodes, source):
    """What is missing from one shard's numbers shows at its next pulse, whatever other shards tell."""
    here, there = nodes(2)
    there.all()
    take, lost, part = there.listener.take, [], _shard(there, 0).part

    def deaf_to_one(message: bytes) -> None:
        if f"@{part} ".encode() in message and not lost:
            lost.append(message)
        else:
            take(message)

    there.listener.take = deaf_to_one
    source[0] = 2
    here.cache.drop_sync(keys=[cache_module.key_for(there.read, 0)])
    until(lambda: there.read(0) == 2, SEEN_S)
    assert lost
    assert there.plane.gaps >= 1


def _shard(node: Node, key: int):
    return node.cache._engine.remote.tiers[0].of(cache_module.key_for(node.read, key)).store


def test_the_node_that_is_listened_to_may_die(nodes, source, redis_cluster):
    """The others hand on what is dropped, and what was missed meanwhile is not handed out."""
    here, there = nodes(2)
    there.all()
    port = there.listener._ear._line.port
    node = next(node for node in redis_cluster.nodes if node.port == port)
    mine = {key for key in KEYS if redis_cluster.owner(_shard(there, key).tag) is node}
    node.kill()
    source[0] = 2
    here.cache.drop_sync(tags=["n"])
    until(lambda: {there.read(key) for key in KEYS if key not in mine} == {2}, SEEN_S)
    until(lambda: there.listener.is_connected and there.listener._ear._line.port != port, SEEN_S)
    source[0] = 3
    here.cache.drop_sync(tags=["n"])
    until(lambda: {there.read(key) for key in KEYS if key not in mine} == {3}, SEEN_S)


def test_a_fail_over_empties_memory(nodes, source, redis_cluster):
    """The replica that takes over may lack what was dropped: nothing from before stays in any process."""
    there = nodes(1)[0]
    there.all()
    gaps = there.plane.gaps
    replica = next(node for node in redis_cluster.nodes if _replication(node)["role"] == "slave")
    master = next(node for node in redis_cluster.nodes if _replication(node)["connected_slaves"])
    tags = (_shard(there, key).tag for key in KEYS)
    tag = next(tag for tag in tags if redis_cluster.owner(tag) is master)
    until(lambda: _replication(replica)["master_link_status"] == "up")
    source[0] = 2
    ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
    until(lambda: redis_cluster.owner(tag) is replica)

    def is_new() -> bool:
        return {there.read(key) for key in KEYS if _shard(there, key).tag == tag} == {2}

    until(is_new, SEEN_S)
    assert there.plane.gaps > gaps


def _replication(node) -> dict:
    return ask(node, "INFO", "replication")


def at_once(jobs) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)


def test_one_process_loads_for_all_over_a_cluster(nodes):
    """Each key is loaded by one of three processes, in whichever shard it lies, one by one and many at once."""
    fleet = nodes(3, load=lambda: time.sleep(0.2))
    for node in fleet:
        node.loads.clear()
    at_once([lambda node=node, key=key: node.read(key) for node in fleet for key in range(100, 108)])
    assert Counter(key for node in fleet for key in node.loads) == dict.fromkeys(range(100, 108), 1)
    assert sum((node.cache._engine.fleet.waits for node in fleet), Counter())["filled"] >= 1
    found = {}
    starts = (200, 210, 220)
    jobs = zip(fleet, starts, strict=True)
    at_once([lambda n=n, at=at: found.update({at: get_many_sync(n.many, range(at, at + 30))}) for n, at in jobs])
    assert found == dict.fromkeys(starts, [1] * 30)
    assert Counter(key for node in fleet for key in node.loads if key >= 200) == dict.fromkeys(range(200, 250), 1)


async def test_a_load_that_fails_over_a_cluster_is_taken_over(nodes):
    """Its lease is given back where it lies, and the other process loads."""
    failures = []

    def fails_once() -> None:
        time.sleep(0.2)
        if not failures:
            failures.append(1)
            raise LookupError

    failing = [False]
    one, two = nodes(2, load=lambda: failing[0] and fails_once())
    failing[0] = True
    one.loads.clear()
    first = asyncio.create_task(asyncio.to_thread(one.read, 500))
    await asyncio.to_thread(until, lambda: one.loads)
    watch = Stopwatch()
    assert await asyncio.to_thread(two.read, 500) == 1
    assert watch.took_s() < 0.95
    with pytest.raises(LookupError):
        await first
