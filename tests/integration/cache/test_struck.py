"""Faults struck on a level that is a real server: what users test against their own Redis."""

from __future__ import annotations

import time
import uuid

import pytest

from smw import cache
from smw.testing import assert_cached, faults, isolated

runs: list[str] = []


@cache.cached(ttl=60, tags=["price"])
async def price(sku: str) -> int:
    """The function of the tests, which counts its runs."""
    runs.append(sku)
    return len(runs)


@pytest.fixture
async def runtime(redis_server):
    runs.clear()
    levels = {"l2_url": redis_server.url, "namespace": uuid.uuid4().hex, "l1_trust_ms": 200, "budget_ms": 500}
    with isolated(cache=levels) as opened:
        yield opened


async def test_a_real_server_can_be_struck(runtime):
    """While a real Redis is made to be down nothing is asked of it, its heartbeat included; then it answers again."""
    assert await price("a") == 1
    with faults.down("l2"):
        assert [await price(sku) for sku in "bcdefg"] == [2, 3, 4, 5, 6, 7]
        assert runtime.cache.backends() == {"redis": False}
        await cache.drop(tags=["price"])
        assert await price("a") == 8
    assert runtime.cache.backends() == {"redis": True}
    assert not runtime.cache.engine.remote.servers[0].debt
    assert await price("h") == 9
    assert_cached(price, "h", level="l2")


@pytest.mark.timed
async def test_a_real_server_that_hangs_costs_its_time(runtime):
    """A request to a server that is made to hang ends with its time-out, and the call with its answer."""
    with faults.hang("l2"):
        began = time.monotonic()
        assert await price("a") == 1
        assert 0.4 < time.monotonic() - began < 5.0
