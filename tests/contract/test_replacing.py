"""Stores that replace a value in one instant: a writer in between is noticed, a load from before is refused."""

from __future__ import annotations

import uuid

import pytest

from smw._kernel.clock import SystemClock, SystemEntropy
from smw.cache.coherence.wire import Wire
from smw.cache.levels.level import run_blocking
from smw.cache.ports import Replacer
from smw.cache.stores.local import LocalStore
from smw.cache.stores.redis import RedisStore
from smw.cache.stores.redis_cluster import Cluster

HOW = {"mode": "sync", "timeout_s": 2.0}


def local(_request):
    return LocalStore(clock=SystemClock())


def redis(request):
    return RedisStore(request.getfixturevalue("redis_server").url, timeout_s=2.0)


def shard(request):
    url = request.getfixturevalue("redis_cluster").url
    return Cluster(url, Wire("smw:replacing:t:*", SystemEntropy()), timeout_s=2.0).shards[3]


@pytest.fixture(params=[local, *(pytest.param(made, marks=pytest.mark.service("redis")) for made in (redis, shard))])
def store(request):
    """One of them."""
    made = request.param(request)
    yield made
    made.close()


class Key:
    """A key and its counters, of which the first belongs to it alone."""

    def __init__(self, store) -> None:
        self.store = store
        self.name = f"k{uuid.uuid4().hex}"
        self.counters = (f"{self.name}:f", f"{self.name}:t")
        run_blocking(store.open(self.counters, 60.0, **HOW))

    def read(self):
        return run_blocking(self.store.read(self.name, self.counters, **HOW))

    def replace(self, blob, found):
        return run_blocking(self.store.replace(self.name, blob, 60.0, counters=self.counters, found=found, **HOW))

    def write(self, blob, found):
        return run_blocking(self.store.write(self.name, blob, 60.0, counters=self.counters, found=found, **HOW))

    def drop(self, *counters):
        run_blocking(self.store.drop(counters, (), **HOW))


@pytest.fixture
def key(store):
    return Key(store)


def test_it_is_one(store):
    """The cache asks for the ability by its protocol."""
    assert isinstance(store, Replacer)


def test_what_stands_is_replaced(key):
    """The value is there, under a number of the key's counter that nobody has seen before; tags keep theirs."""
    before = key.read()
    assert key.write(b"old", before)
    number = key.replace(b"new", before)
    after = key.read()
    assert (after.blob, after.counters) == (b"new", (number, before.counters[1]))
    assert number != before.counters[0]


def test_a_load_from_before_is_refused(key):
    """Whoever saw the counters before cannot store his value any more."""
    before = key.read()
    assert key.replace(b"new", before)
    assert not key.write(b"old", before)
    assert key.read().blob == b"new"


@pytest.mark.parametrize("counter", [0, 1])
def test_what_changed_in_between_leaves_nothing(key, counter):
    """Where the key or a tag was dropped since, the value is removed and the counter changes all the same."""
    before = key.read()
    key.drop(key.counters[counter])
    assert key.write(b"other", key.read())
    between = key.read()
    assert key.replace(b"new", before) <= 0
    after = key.read()
    assert after.blob is None
    assert after.counters[0] != between.counters[0]


def test_of_two_writers_the_second_drops(key):
    """Both saw the same; the first to end stores, the second finds out and leaves nothing."""
    before = key.read()
    assert key.replace(b"one", before)
    assert key.replace(b"two", before) <= 0
    assert key.read().blob is None


def test_counters_that_are_forgotten_store_nothing(store):
    """Without a counter nobody could tell later whether the value stands."""
    key = Key(store)
    before = key.read()
    key.counters = (f"{key.name}:g", key.counters[1])
    assert key.replace(b"new", before) <= 0
    assert key.read().blob is None
