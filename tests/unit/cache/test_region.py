"""Regions: named values over the same levels, for callers that do their own loading."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from smw.cache.ports import StoreFailedError
from smw.errors import ConfigError

LEVELS = [(), ("l2",), ("l3",), ("l2", "l3")]
PAGE = {"status": 200, "body": b"<p>\x00", "headers": [["vary", "accept"]]}


@pytest.mark.parametrize("levels", LEVELS)
async def test_values_come_back_as_copies(bench, levels):
    """What was put is found, by this process and through the servers by another, each time as the caller's own."""
    region = bench.cache(*levels).region("web")
    assert await region.get("k") is None
    await region.put("k", PAGE, 60, tags=["user"])
    for _ in range(2):
        found = await region.get("k")
        assert found == PAGE
        found["headers"].append("spoilt")
    other = bench.cache(*levels).region("web")
    assert await other.get("k") == (PAGE if levels else None)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("how", [{"keys": ["k"]}, {"tags": ["user"]}])
async def test_dropped_values_are_gone(bench, levels, how):
    """A drop by key or tag removes the value everywhere; the cache's own drop by tag does too."""
    cache = bench.cache(*levels)
    region = cache.region("web")
    await region.put("k", PAGE, 60, tags=["user"])
    await region.drop(**how)
    assert await region.get("k") is None
    assert await bench.cache(*levels).region("web").get("k") is None
    await region.put("k", PAGE, 60, tags=["user"])
    await cache.drop(tags=["user"])
    assert await region.get("k") is None


async def test_putting_again_replaces(bench):
    """The newest value wins in every level."""
    region = bench.cache("l2", "l3").region("web")
    await region.put("k", 1, 60)
    await region.put("k", 2, 60)
    assert await region.get("k") == 2
    assert await bench.cache("l2", "l3").region("web").get("k") == 2


async def test_value_made_before_a_drop_is_not_stored(bench):
    """With the mark of the moment before, what was dropped since is not stored."""
    cache = bench.cache("l2")
    region = cache.region("web")
    mark = region.mark()
    await cache.drop(tags=["user"])
    await region.put("k", PAGE, 60, tags=["user"], since=mark)
    assert await region.get("k") is None


@pytest.mark.parametrize("levels", LEVELS)
def test_blocking_code(bench, levels):
    """Each operation has a form for blocking code, which does the same."""
    region, other = bench.cache(*levels).region("web"), bench.cache(*levels).region("web")
    region.put_sync("k", PAGE, timedelta(minutes=1), tags=["user"])
    assert (region.get_sync("k"), other.get_sync("k", "none")) == (PAGE, PAGE if levels else "none")
    region.drop_sync(tags=["user"])
    assert region.get_sync("k", "none") == "none"
    mark = region.mark()
    region.drop_sync(keys=["k"])
    region.put_sync("k", PAGE, 60, since=mark)
    assert region.get_sync("k") is None


@pytest.mark.parametrize("levels", LEVELS)
async def test_a_stored_none_is_told_from_none_at_all(bench, levels):
    """Where there is no value the caller's own default comes back, from memory and from servers."""
    absent = object()
    region = bench.cache(*levels).region("web")
    assert await region.get("k", absent) is absent
    await region.put("k", None, 60)
    assert await region.get("k", absent) is None
    assert await bench.cache(*levels).region("web").get("k", absent) is (None if levels else absent)


async def test_what_cannot_be_a_key_or_a_time_is_refused(bench, caplog):
    """Keys are whatever arguments may be, apart by type; a value that does not travel is warned of once."""
    region = bench.cache("l2").region("web")
    await region.put((1, "a"), 1, 60)
    await region.put("1", 2, 60)
    assert (await region.get((1, "a")), await region.get("1"), await region.get(1)) == (1, 2, None)
    with pytest.raises(ConfigError, match="SMW-C113"):
        await region.get(object())
    for ttl in ("60", None, True, float("nan")):
        with pytest.raises(ConfigError, match="SMW-C102"):
            await region.put("k", 1, ttl)
    for _ in range(2):
        await region.put("path", Path("a"), 60)
        assert await region.get("path") == Path("a")
    assert [record.getMessage() for record in caplog.records] == [
        "a value of the region 'web' is not kept as asked: unstorable-result (PosixPath)"
    ]


@pytest.mark.parametrize("name", ["", 3, None, b"codes"], ids=repr)
def test_a_region_has_a_name(bench, name):
    """A text that is not empty: it keeps its keys apart from those of every other."""
    with pytest.raises(ConfigError, match="SMW-C113") as caught:
        bench.cache().region(name)
    assert caught.value.fix == 'cache.region("codes")'


async def test_time_ends(bench):
    """A value ends with its time to live, and one without any is not stored."""
    region = bench.cache("l2").region("web")
    await region.put("k", PAGE, 10)
    await region.put("never", PAGE, 0)
    assert await region.get("never") is None
    bench.clock.advance(10.1)
    assert await region.get("k") is None


async def test_regions_are_apart(bench):
    """The same key in two regions is two values."""
    cache = bench.cache()
    await cache.region("a").put("k", 1, 60)
    assert await cache.region("b").get("k") is None
    assert cache.region("a") is cache.region("a")


async def test_other_processes_follow_within_the_trust(bench):
    """What another process dropped by tag is gone here after the trust time."""
    here, there = bench.cache("l2").region("web"), bench.cache("l2")
    await here.put("k", PAGE, 60, tags=["user"])
    await there.drop(tags=["user"])
    bench.clock.advance(1.01)
    assert await here.get("k") is None


async def test_outage_is_a_miss(bench):
    """A failing server neither raises nor loses what memory has."""
    cache = bench.cache("l2")
    region = cache.region("web")
    bench_store = bench.stores["l2"]
    bench_store.failing = StoreFailedError("timeout")
    await region.put("k", PAGE, 60, tags=["user"])
    assert await region.get("k") == PAGE
    assert await region.get("other") is None
    await region.drop(keys=["k"])
    assert await region.get("k") is None


async def test_unpaid_drop_of_a_tag_counts_before_the_server_has_heard_of_it(bench):
    """A drop by tag that the server did not hear holds here, also once the server answers again and is still owed."""
    cache = bench.cache("l2")
    region = cache.region("web")
    await region.put("k", PAGE, 60, tags=["user"])
    bench.stores["l2"].failing = StoreFailedError("timeout")
    await region.drop(tags=["user"])
    bench.stores["l2"].failing = None
    assert cache._engine.remote.servers[0].debt
    assert await region.get("k") is None


@pytest.mark.parametrize("levels", LEVELS)
async def test_who_has_the_old_value_in_memory_follows(bench, levels):
    """What is put over a value is what every process reads once the trust of its memory has ended."""
    here, there = bench.cache(*levels).region("web"), bench.cache(*levels).region("web")
    await here.put("k", "old", 60, tags=["user"])
    assert await there.get("k") == ("old" if levels else None)
    await here.put("k", "new", 60, tags=["user"])
    bench.clock.advance(1.01)
    assert (await here.get("k"), await there.get("k")) == ("new", "new" if levels else None)


def stale(region):
    """Return a mark after which a value under its tag was dropped."""
    mark = region.mark()
    region.drop_sync(tags=["user"])
    return mark


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("how", ["ttl=0", "ttl<0", "uncopyable", "since"])
def test_what_is_not_kept_drops_the_older_value(bench, levels, how):
    """Where the new value is not stored, neither this process nor another reads the one before it."""
    here, there = bench.cache(*levels).region("web"), bench.cache(*levels).region("web")
    here.put_sync("k", "old", 60)
    there.get_sync("k")
    if how == "since":
        here.put_sync("k", "new", 60, tags=["user"], since=stale(here))
    elif how == "uncopyable":
        here.put_sync("k", threading.Lock(), 60)
    else:
        here.put_sync("k", "new", 0 if how == "ttl=0" else -5)
    bench.clock.advance(1.01)
    assert (here.get_sync("k"), there.get_sync("k")) == (None, None)


@pytest.mark.parametrize("levels", LEVELS)
def test_what_does_not_travel_drops_the_older_value_elsewhere(bench, levels):
    """It is read here; other processes read nothing older."""
    here, there = bench.cache(*levels).region("web"), bench.cache(*levels).region("web")
    here.put_sync("k", "old", 60)
    there.get_sync("k")
    here.put_sync("k", bytearray(b"new"), 60)
    assert here.get_sync("k") == bytearray(b"new")
    bench.clock.advance(1.01)
    assert there.get_sync("k") is None


def test_a_cache_that_is_switched_off_drops_the_older_value(bench):
    """Processes that keep values do not keep what one that keeps none has put another in the place of."""
    on, off = bench.cache("l2").region("web"), bench.cache("l2", enabled=False).region("web")
    on.put_sync("k", "old", 60)
    off.put_sync("k", "new", 60)
    bench.clock.advance(1.01)
    assert (on.get_sync("k"), off.get_sync("k")) == (None, None)


@pytest.mark.parametrize("levels", [("l2",), ("l3",), ("l2", "l3")])
def test_the_older_value_does_not_come_back_with_the_server(bench, levels):
    """What is put while a server is away is read here meanwhile, and afterwards nobody reads what was there before."""
    cache, other = bench.cache(*levels), bench.cache(*levels)
    here, there = cache.region("web"), other.region("web")
    here.put_sync("k", "old", 60)
    there.get_sync("k")
    bench.stores[levels[0]].failing = StoreFailedError("timeout")
    here.put_sync("k", "new", 60)
    bench.clock.advance(1.01)
    assert here.get_sync("k") == "new"
    bench.stores[levels[0]].failing = None
    for level in cache._engine.remote.servers:
        level.pay()
    bench.clock.advance(1.01)
    assert (here.get_sync("k"), there.get_sync("k")) == (None, None)


def test_a_server_that_fails_in_the_midst_of_it_owes_the_drop(bench, monkeypatch):
    """It was asked what is there, and did not answer when it was to take the new value."""
    cache = bench.cache("l2")
    region, store = cache.region("web"), bench.stores["l2"]
    region.put_sync("k", "old", 60)

    async def fail(*_args, **_how):
        raise StoreFailedError("timeout")

    monkeypatch.setattr(store, "replace", fail)
    region.put_sync("k", "new", 60)
    assert region.get_sync("k") == "new"
    cache._engine.remote.servers[0].pay()
    bench.clock.advance(1.01)
    assert region.get_sync("k") is None
    assert bench.cache("l2").region("web").get_sync("k") is None


@pytest.mark.parametrize(
    "how",
    [
        {"keys": "ada"},
        {"keys": b"ada"},
        {"tags": "user"},
        {"tags": [5]},
        {"tags": [""]},
        {},
    ],
)
def test_drops_are_told_what_a_drop_of_the_cache_is_told(bench, how):
    """A text in the place of a sequence, a tag that is none, and nothing at all are mistakes; empty lists are not."""
    region = bench.cache().region("web")
    region.put_sync("a", 1, 60)
    with pytest.raises(ConfigError, match="SMW-C110"):
        region.drop_sync(**how)
    region.drop_sync(keys=[], tags=[])
    assert region.get_sync("a") == 1


@pytest.mark.parametrize("how", [{"tags": "user"}, {"tags": [5]}, {"tags": [""]}, {"tags": [str]}, {"since": 5}])
def test_tags_and_marks_of_a_put_are_checked(bench, how):
    """A mistake in them is told by its code, and nothing is stored or dropped."""
    region = bench.cache().region("web")
    region.put_sync("k", "old", 60)
    with pytest.raises(ConfigError, match="SMW-C110"):
        region.put_sync("k", "new", 60, **how)
    assert region.get_sync("k") == "old"
