"""A server that has lost drops which were acknowledged: a promoted replica, and one restarted from an old snapshot."""

from __future__ import annotations

import time

import pytest
import redis

from smw.cache.coherence.listener import HEARTBEAT_S
from tests.faults.tcp_proxy import TcpProxy
from tests.faults.test_cache_backplane import Node, nodes, origin, until  # noqa: F401 - fixtures

pytestmark = [pytest.mark.service("redis"), pytest.mark.timed]
SLACK_S = 1.0
RECONNECTED_S = 1.0
"""What it takes at most to find the server that has come: its breaker looks every half second."""


def everything(client: redis.Redis, node: Node) -> int:
    """Return the counter that every value of the namespace carries."""
    return int(client.get(node.cache._names.everything))


def kept(client: redis.Redis, node: Node) -> bytes | None:
    """Return what the server has under the key that nodes read."""
    from smw import cache as cache_module

    return client.get(cache_module.key_for(node.read, 1))


@pytest.fixture
def pair(service_factory):
    """A master behind an address that can be moved to its replica, whose replication can be cut."""
    at_once = "--repl-diskless-sync-delay", "0"
    master, replica = service_factory("redis", *at_once), service_factory("redis", *at_once)
    address, link = TcpProxy(master.port), TcpProxy(master.port)
    with redis.Redis.from_url(master.url) as first, redis.Redis.from_url(replica.url) as second:
        second.replicaof("127.0.0.1", link.port)
        until(lambda: second.info("replication")["master_link_status"] == "up")
        yield master, first, second, replica, address, link
    for proxy in (address, link):
        proxy.close()


def test_a_promoted_replica_that_lost_a_drop_shows_nothing_old(pair, nodes, origin):  # noqa: F811
    """The first process that meets the new master drops everything, once for all, within the heartbeat."""
    master, first, second, replica, address, link = pair
    url = f"redis://127.0.0.1:{address.port}/0"
    here, there = nodes(url)
    assert first.wait(1, 2000) == 1
    before = kept(second, there), everything(second, there)
    assert before[0] is not None
    link.mode = "blackhole"
    origin.write(2)
    here.cache.drop_sync(tags=["n"])
    until(lambda: there.read(1) == 2)
    master.kill()
    second.replicaof("NO", "ONE")
    assert (kept(second, there), everything(second, there)) == before, "the drop is lost there"
    address._behind = replica.port
    until(lambda: there.cache._listener.is_connected, RECONNECTED_S + 1.0)
    until(lambda: everything(second, there) > before[1], HEARTBEAT_S + SLACK_S)
    newcomer = nodes(url, 1)[0]
    assert [node.read(1) for node in (here, there, newcomer)] == [2, 2, 2]
    raised = everything(second, there)
    time.sleep(2 * HEARTBEAT_S)
    assert everything(second, there) == raised, "once for all"


def test_a_master_that_followed_another_meanwhile_is_a_new_one(pair, nodes, origin):  # noqa: F811
    """A server that was demoted and promoted again without a restart has another history each time."""
    master, first, second, replica, *_ = pair
    second.replicaof("NO", "ONE")
    node = nodes(replica.url, 1)[0]
    before = everything(second, node)
    time.sleep(2 * HEARTBEAT_S)
    assert everything(second, node) == before
    for key in second.keys("*"):  # the other has the same, but nobody who would notice a change
        first.restore(key, 0, second.dump(key), replace=True)
    second.replicaof("127.0.0.1", master.port)
    until(lambda: second.info("replication")["master_link_status"] == "up")
    second.replicaof("NO", "ONE")
    until(lambda: everything(second, node) > before)
    assert node.read(1) == 1


def test_a_restart_from_an_old_snapshot_shows_nothing_old(service_factory, nodes, origin):  # noqa: F811
    """A server that comes back with what it had before a drop is met before callers read from it."""
    server = service_factory("redis")
    here, there = nodes(server.url)
    with redis.Redis.from_url(server.url) as client:
        client.save()
        old = everything(client, there)
        origin.write(2)
        here.cache.drop_sync(tags=["n"])
        until(lambda: there.read(1) == 2)
        level = there.cache._engine.remote.servers[0]
        server.kill()
        for _ in range(10):  # callers find out, and its breaker opens
            there.cache.drop_sync(tags=["other"])
        assert level.breaker.is_open
        server.start()
        until(lambda: not level.breaker.is_open)
        there.backplane._drop_all()
        assert there.read(1) == 2
        assert everything(client, there) > old


def test_a_namespace_begins_without_dropping_anything(nodes, redis_server, origin):  # noqa: F811
    """The first process of a namespace notes who the server is, and a second one finds that and goes on."""
    here = nodes(redis_server.url, 1)[0]
    with redis.Redis.from_url(redis_server.url) as client:
        before = everything(client, here)
        loads = here.loads
        nodes(redis_server.url, 1)
        time.sleep(2 * HEARTBEAT_S)
        assert everything(client, here) == before
    assert here.read(1) == 1
    assert here.loads == loads
