"""A Redis that hangs takes no other level along."""

from __future__ import annotations

import asyncio

import pytest

from smw.cache import Cache


@pytest.mark.service("redis", "memcached")
async def test_a_hung_redis_speaks_for_itself_alone(service_factory, memcached_server):
    """A hundred calls at once over a Redis that hangs leave the healthy memcached answering."""
    redis = service_factory("redis")
    cache = Cache(namespace="beside", l2_host=redis.url, l3_servers=[memcached_server.address])

    @cache.cached(60, key=lambda number: number, levels=("l2", "l3"))
    async def load(number: int) -> int:
        return number

    await asyncio.gather(*map(load, range(100)))
    redis.pause()
    try:
        for start in (100, 300):
            assert await asyncio.gather(*map(load, range(start, start + 100))) == list(range(start, start + 100))
        assert cache.backends() == {"redis": False, f"memcached {memcached_server.address}": True}
    finally:
        redis.resume()
        await cache.aclose()
