"""How the keys of a cluster are divided among its slots, and the nodes among its shards; without a server."""

from __future__ import annotations

import pytest
import redis.exceptions
from redis.crc import key_slot

from smw._kernel.clock import SystemEntropy
from smw.cache import Cache
from smw.cache.coherence.wire import Wire
from smw.cache.levels.level import run_blocking
from smw.cache.ports import StoreFailedError
from smw.cache.stores.redis_cluster import Cluster, _Node, tags_of


@pytest.mark.parametrize("shards", [1, 2, 3, 12, 256])
def test_shards_lie_evenly_over_the_slots(shards):
    """Each shard's slot lies in its own part of the slots, so that masters with equal shares have equally many."""
    slots = [key_slot(f"{tag}smw:t:x".encode()) for tag in tags_of(shards)]
    assert [slot * shards // 16_384 for slot in slots] == list(range(shards))


def test_where_values_lie_does_not_change_from_one_release_to_the_next():
    """The hash tags are part of the format: other tags would leave all stored values behind."""
    assert " ".join(tags_of(12)) == "{18} {7} {50} {19} {33} {51} {106} {5} {49} {107} {4} {48}"


def cluster_of(*hosts):
    return Cluster(f"redis+cluster://{','.join(hosts)}", Wire("smw:t:t:*", SystemEntropy()), timeout_s=0.1)


def test_a_lost_node_is_not_asked_where_its_shards_are():
    """Whoever is asked next is another node, one that was named or one that was heard of."""
    cluster = cluster_of("a:1", "b:2")
    shard, other = cluster.shards[:2]
    assert cluster.guess().place == ("a", 1)
    cluster.found(shard.tag, ("a", 1))
    cluster.found(other.tag, ("c", 3))
    cluster.lost(("a", 1))
    assert shard.tag not in cluster.at
    asked = set()
    for _ in range(4):
        asked.add(cluster.guess().place)
        cluster.lost(("a", 1))
    assert asked == {("b", 2), ("c", 3)}
    assert cluster.at == {other.tag: ("c", 3)}


def test_shards_of_one_node_fail_together():
    """What one shard learns of its node holds for those that were last seen there, also after it was lost."""
    cluster = cluster_of("a:1")
    for number, shard in enumerate(cluster.shards):
        cluster.found(shard.tag, ("a", 1) if number < 3 else ("b", 2))
    cluster.lost(("a", 1))
    assert cluster.neighbours(cluster.shards[1]) == (0, 1, 2)


def test_another_node_in_the_place_of_one_is_told_of():
    """A shard that is somewhere for the first time, or is where it was, is nothing to tell."""
    shard, told = cluster_of("a:1").shards[0], []
    shard.on_moved = lambda: told.append(1)
    for place, count in ((("a", 1), 0), (("a", 1), 0), (("b", 2), 1), (("b", 2), 1), (("a", 1), 2)):
        shard._found(place)
        assert len(told) == count


def test_a_node_without_shards_is_let_go():
    """Nodes that come and go leave nothing behind; those that the setting names stay."""
    cluster = cluster_of("a:1")
    shard = cluster.shards[0]
    for port in range(2, 20):
        cluster.found(shard.tag, ("b", port))
        cluster.node_at(("b", port))
        cluster.node_at(("a", 1))
    assert set(cluster._nodes) == {("a", 1), ("b", 19)}


def test_the_whole_cluster_is_one_level():
    """A cache on a cluster has one level of as many servers as shards, and one alone where so few are wanted."""
    with_all, with_one = Cache(l2_url="redis+cluster://a"), Cache(l2_url="redis+cluster://a?shards=1")
    assert [len(cache._engine.remote.servers) for cache in (with_all, with_one)] == [12, 1]
    assert [tier.name for tier in with_all._engine.remote.tiers] == ["l2"]
    for cache in (with_all, with_one):
        cache.close()


def test_nodes_that_send_to_each_other_are_asked_a_few_times(monkeypatch):
    """While a shard moves each of two nodes may say that the other has it: the request fails, and does not wander."""
    cluster, asked = cluster_of("a:1", "b:2"), []
    shard = cluster.shards[0]

    async def run(node, _mode, _timeout_s, *command, asking=False):
        asked.append(command[0])
        host, port = ("b", 2) if node.place == ("a", 1) else ("a", 1)
        raise StoreFailedError("moving", counts=False) from redis.exceptions.MovedError(f"1 {host}:{port}")

    monkeypatch.setattr(_Node, "run", run)
    with pytest.raises(StoreFailedError) as caught:
        run_blocking(shard._run("sync", 0.1, "GET", shard.tag))
    assert (caught.value.kind, caught.value.counts) == ("moving", False)
    assert len(asked) < 40
