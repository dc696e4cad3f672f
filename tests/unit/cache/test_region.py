"""Regions: named values over the same levels, for callers that do their own loading."""

from __future__ import annotations

import pytest

from smw.cache.ports import StoreFailedError

LEVELS = [(), ("l2",), ("l3",), ("l2", "l3")]
PAGE = {"status": 200, "body": b"<p>\x00", "headers": [["vary", "accept"]]}


@pytest.mark.parametrize("levels", LEVELS)
async def test_values_come_back_as_copies(bench, levels):
    """What was put is found, by this process and through the servers by another, each time as the caller's own."""
    region = bench.cache(*levels).region("web")
    assert await region.get("k", "async") is None
    await region.put("k", PAGE, 60, ["user"], "async")
    for _ in range(2):
        found = await region.get("k", "async")
        assert found == PAGE
        found["headers"].append("spoilt")
    other = bench.cache(*levels).region("web")
    assert await other.get("k", "async") == (PAGE if levels else None)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("how", [{"keys": ["k"]}, {"tags": ["user"]}])
async def test_dropped_values_are_gone(bench, levels, how):
    """A drop by key or tag removes the value everywhere; the cache's own drop by tag does too."""
    cache = bench.cache(*levels)
    region = cache.region("web")
    await region.put("k", PAGE, 60, ["user"], "async")
    await region.drop(**how, mode="async")
    assert await region.get("k", "async") is None
    assert await bench.cache(*levels).region("web").get("k", "async") is None
    await region.put("k", PAGE, 60, ["user"], "async")
    await cache.drop(tags=["user"])
    assert await region.get("k", "async") is None


async def test_putting_again_replaces(bench):
    """The newest value wins in every level."""
    region = bench.cache("l2", "l3").region("web")
    await region.put("k", 1, 60)
    await region.put("k", 2, 60)
    assert await region.get("k", "async") == 2
    assert await bench.cache("l2", "l3").region("web").get("k", "async") == 2


async def test_value_made_before_a_drop_is_not_stored(bench):
    """With the mark of the moment before, what was dropped since is not stored."""
    cache = bench.cache("l2")
    region = cache.region("web")
    mark = region.mark()
    await cache.drop(tags=["user"])
    await region.put("k", PAGE, 60, ["user"], "async", since=mark)
    assert await region.get("k", "async") is None


async def test_time_ends(bench):
    """A value ends with its time to live, and one without any is not stored."""
    region = bench.cache("l2").region("web")
    await region.put("k", PAGE, 10)
    await region.put("never", PAGE, 0)
    assert await region.get("never", "async") is None
    bench.clock.advance(10.1)
    assert await region.get("k", "async") is None


async def test_regions_are_apart(bench):
    """The same key in two regions is two values."""
    cache = bench.cache()
    await cache.region("a").put("k", 1, 60)
    assert await cache.region("b").get("k", "async") is None
    assert cache.region("a") is cache.region("a")


async def test_other_processes_follow_within_the_trust(bench):
    """What another process dropped by tag is gone here after the trust time."""
    here, there = bench.cache("l2").region("web"), bench.cache("l2")
    await here.put("k", PAGE, 60, ["user"])
    await there.drop(tags=["user"])
    bench.clock.advance(1.01)
    assert await here.get("k", "async") is None


async def test_outage_is_a_miss(bench):
    """A failing server neither raises nor loses what memory has."""
    cache = bench.cache("l2")
    region = cache.region("web")
    bench_store = bench.stores["l2"]
    bench_store.failing = StoreFailedError("timeout")
    await region.put("k", PAGE, 60, ["user"])
    assert await region.get("k", "async") == PAGE
    assert await region.get("other", "async") is None
    await region.drop(keys=["k"])
    assert await region.get("k", "async") is None


async def test_unpaid_drop_of_a_tag_counts_before_the_server_has_heard_of_it(bench):
    """A drop by tag that the server did not hear holds here, also once the server answers again and is still owed."""
    cache = bench.cache("l2")
    region = cache.region("web")
    await region.put("k", PAGE, 60, ["user"])
    bench.stores["l2"].failing = StoreFailedError("timeout")
    await region.drop(tags=["user"])
    bench.stores["l2"].failing = None
    assert cache._engine.remote.servers[0].debt
    assert await region.get("k", "async") is None
