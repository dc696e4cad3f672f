"""Rows of the tables in `tests/unit/cache/test_traps.py` and `test_edges.py` that only real servers can show."""

from __future__ import annotations

import os

import pytest
import redis

from tests.unit.cache.shapes import SHAPES, Shaped

pytestmark = [pytest.mark.service("redis"), pytest.mark.service("memcached")]
TEN_YEARS_S = 10 * 365 * 86_400


@pytest.mark.parametrize("levels", [("l2",), ("l3",)])
@pytest.mark.parametrize("shape", SHAPES)
async def test_the_longest_time_to_live_is_a_hit(steady, shape, levels):
    """Ten years are not read as a date in the past, nor as no time at all."""
    loads = [Shaped(steady(*levels), shape, lambda _number: "value", ttl=TEN_YEARS_S) for _ in range(2)]
    assert [await load() for load in loads] == ["value"] * 2
    assert [load.runs for load in loads] == [1, 0]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_value_over_the_limit_of_memcached_skips_it(steady, shape):
    """A value too large for memcached is kept in Redis, counted, and no fault of the server."""
    large = os.urandom(600_000).hex() * 2
    first, second = (Shaped(steady("l2", "l3"), shape, lambda _number: large) for _ in range(2))
    assert await first() == await second() == large
    assert [first.runs, second.runs] == [1, 0]
    facts = {(fact.name, fact.labels): fact.value for fact in first.cache.host.facts}
    assert facts["smw_cache_errors_total", (("level", "l3"), ("kind", "too-large"))] == 1
    assert all(first.cache.backends().values())
    alone = Shaped(steady("l3"), shape, lambda _number: large)
    assert await alone() == large
    assert alone.runs == 1


async def test_no_tag_lists_its_members_on_a_server(steady, redis_server):
    """However many values carry a tag, Redis has one number for it: no set, no list, and every key ends."""
    cache, names = steady("l2"), {}
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        for count in (50, 500):
            load = Shaped(cache, ("function", "async"), lambda number: number, tags=["everybody"])
            for number in range(count):
                await load(number)
            found = list(client.scan_iter(f"smw:{cache.settings.namespace}:*", count=1000))
            assert {client.type(name) for name in found} == {"string"}
            assert all(client.ttl(name) > 0 for name in found)
            names[count] = [name for name in found if ":t:" in name]
            assert all(client.strlen(name) <= 20 for name in names[count])
    assert sorted(names[50]) == sorted(names[500])
    assert len(names[500]) == 2
