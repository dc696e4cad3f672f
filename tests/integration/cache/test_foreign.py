"""What somebody else has put under the names of the cache in a real Redis: it costs misses, and no drop."""

from __future__ import annotations

import time

import pytest
import redis

from smw import cache as cache_module
from smw.cache.coherence.wire import LEASE_END
from smw.cache.levels.level import run_blocking
from smw.cache.naming.names import fence_of
from smw.cache.ports import Lease, LeaseAsk

pytestmark = pytest.mark.service("redis")
KINDS = {
    "list": lambda client, name: client.rpush(name, "x"),
    "hash": lambda client, name: client.hset(name, "a", "b"),
    "text": lambda client, name: client.set(name, "abc"),
    "007": lambda client, name: client.set(name, "007"),
    "2^53": lambda client, name: client.set(name, 2**53),
    "2^53-1": lambda client, name: client.set(name, 2**53 - 1),
    "2^63-1": lambda client, name: client.set(name, 2**63 - 1),
}
foreign = pytest.mark.parametrize("kind", KINDS)


class Shop:
    """Two processes with the same function, and a client that is none of ours."""

    def __init__(self, steady, server) -> None:
        self.one, self.two = (steady("l2", l1_trust_ms=0) for _ in range(2))
        self.client = redis.Redis(port=server.port)
        self.prices = {"tea": 3, "milk": 1}
        self.runs = 0

        def price(sku: str) -> int:
            self.runs += 1
            return self.prices[sku]

        self.here, self.there = (
            each.cached(ttl=600, tags=["shop", "sku:{sku}"])(price) for each in (self.one, self.two)
        )
        self.server = self.one.engine.remote.servers[0]

    def __cache_key__(self) -> str:
        return "shop"

    def put(self, kind: str, name: str) -> str:
        """Put something else in the place of a name of ours."""
        self.client.delete(name)
        KINDS[kind](self.client, name)
        return name

    def counter(self, tag: str) -> str:
        """Return what the counter of a tag is called."""
        return next(iter(self.one.tag_names([tag])))


@pytest.fixture
def shop(steady, redis_server):
    return Shop(steady, redis_server)


@foreign
def test_a_counter_that_is_foreign_holds_up_no_drop(shop, kind):
    """Drops of others are acknowledged, the one at the counter holds too, and then all is kept as before."""
    assert (shop.here("tea"), shop.here("milk"), shop.there("tea"), shop.there("milk"), shop.runs) == (3, 1, 3, 1, 2)
    shop.put(kind, shop.counter("sku:tea"))
    shop.here("tea")
    shop.there("tea")
    shop.prices.update(tea=4, milk=2)
    shop.one.drop_sync(tags=["sku:tea", "sku:milk"])
    assert not shop.server.debt
    assert (shop.here("tea"), shop.here("milk"), shop.there("tea"), shop.there("milk")) == (4, 2, 4, 2)
    runs = shop.runs
    assert (shop.here("tea"), shop.there("tea"), shop.there("milk")) == (4, 4, 2)
    assert shop.runs == runs
    for price in range(5, 8):
        shop.prices["tea"] = price
        shop.two.drop_sync(tags=["sku:tea"])
        assert shop.here("tea") == shop.there("tea") == price


@foreign
def test_a_load_sees_to_a_counter_that_is_foreign(shop, kind):
    """What is loaded beside it is kept, and the next call of any process is a hit."""
    shop.here("tea")
    shop.put(kind, shop.counter("sku:tea"))
    shop.here("tea")
    runs = shop.runs
    assert (shop.here("tea"), shop.there("tea"), shop.runs) == (3, 3, runs)


@foreign
def test_a_fence_and_the_number_of_messages_that_are_foreign_hold_up_no_drop(shop, kind):
    """A drop by key changes the counter that the key shares, and tells others by the number."""
    shop.here("tea")
    shop.there("tea")
    key = cache_module.key_for(shop.here, "tea")
    wire = shop.server.store._wire
    for name in (fence_of(key), wire.number, wire.guard):
        shop.put(kind, name)
    shop.prices["tea"] = 4
    shop.one.drop_sync(keys=[key])
    assert not shop.server.debt
    assert shop.here("tea") == shop.there("tea") == 4
    until = time.monotonic() + 10
    while not shop.one.engine.backplane.of(key).standing[1] > 0 and time.monotonic() < until:
        shop.here("tea")
        time.sleep(0.01)
    shop.prices["tea"] = 5
    shop.two.drop_sync(keys=[key])
    assert shop.here("tea") == shop.there("tea") == 5


def test_a_value_and_a_lease_that_are_foreign_are_replaced(shop):
    """A list in the place of a value is no value that another process has stored meanwhile."""
    shop.here("tea")
    key = cache_module.key_for(shop.here, "tea")
    shop.one.drop_sync(keys=[key])
    shop.put("list", key)
    shop.put("list", key + LEASE_END)
    began = time.monotonic()
    assert shop.here("tea") == 3
    assert time.monotonic() - began < 5
    assert shop.client.type(key) == b"string"
    assert shop.there("tea") == 3
    assert shop.runs == 2


def test_a_lease_is_taken_beside_a_foreign_value_and_lease(shop):
    """The script that hands out leases takes what is no lease away, and says that no value is there."""
    store = shop.server.store
    key = cache_module.key_for(shop.here, "milk")
    shop.put("list", key)
    shop.put("list", key + LEASE_END)
    counter = shop.put("2^53", shop.counter("sku:milk"))
    leased = run_blocking(store.lease([LeaseAsk(key, (counter,), True, True, ())], 60, mode="sync", timeout_s=5))
    assert leased[0].leads
    assert leased[0].counters[0] < 2**53
    assert run_blocking(store.waiters([key], mode="sync", timeout_s=5)) == []
    shop.put("list", key + LEASE_END)
    assert run_blocking(store.waiters([key], mode="sync", timeout_s=5)) == []
    lease = Lease(key, leased[0].counters)
    assert run_blocking(store.renew([lease], mode="sync", timeout_s=5))
    assert run_blocking(store.release([lease], "n", mode="sync", timeout_s=5))
