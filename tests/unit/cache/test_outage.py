"""What a failing server costs and what it never costs: a value, or the truth about an invalidation."""

from __future__ import annotations

import pytest

from smw import cache as cache_module
from smw._kernel.guard import FAILURES
from smw.cache.ports import StoreFailedError
from tests.unit.cache.test_levels import Source, loader

LEVELS = [("l2",), ("l3",), ("l2", "l3")]


def fail(bench, *, kind="timeout", levels=("l2", "l3"), **how) -> None:
    for name in levels:
        if name in bench.stores:
            bench.stores[name].failing = StoreFailedError(kind, **how)


def heal(bench) -> None:
    for store in bench.stores.values():
        store.failing = None


def recover(cache) -> None:
    """Do what the background does on real time: probe, pay, close."""
    for server in cache._engine.remote.servers:
        if server.breaker.is_open:
            server.breaker.probe_now()
        server.pay()


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("kind", ["timeout", "refused", "protocol", "auth", "readonly", "full"])
def test_function_answers_whatever_the_server_does(bench, levels, kind):
    """Calls return their values, and memory serves on."""
    cache = bench.cache(*levels)
    source = Source()
    load = loader(cache, source)
    fail(bench, kind=kind, permanent=kind == "auth", counts=kind not in ("readonly", "full"))
    for user in range(20):
        assert load(user) == {"user": user, "value": "old"}
        assert load(user) == {"user": user, "value": "old"}
    assert source.reads == 20
    cache.drop_sync(tags=["user"])


def test_breaker_keeps_callers_from_asking(bench):
    """After five failures in a row the server is not asked any more, until the probe gets an answer."""
    cache = bench.cache("l2")
    source = Source()
    load = loader(cache, source)
    load(0)
    fail(bench)
    for user in range(1, 50):
        load(user)
    asked = [what for what in bench.stores["l2"].asked if what != "probe"]
    assert len(asked) <= 3 + 2 * FAILURES
    assert cache.backends() == {"local": False}
    heal(bench)
    recover(cache)
    assert cache.backends() == {"local": True}


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("failing", [("l2", "l3"), ("l2",), ("l3",)])
@pytest.mark.parametrize("kind", ["timeout", "readonly"])
def test_no_old_value_here_after_a_drop_that_no_server_heard(bench, levels, failing, kind):
    """The process that dropped never serves the old value: not during the outage, not after it."""
    cache = bench.cache(*levels)
    source = Source()
    load = loader(cache, source)
    load(1)
    load(2)
    key = cache_module.key_for(load, 2)
    fail(bench, kind=kind, levels=failing, counts=kind == "timeout")
    source.value = "new"
    cache.drop_sync(tags=["user:1"], keys=[key])
    assert load(1)["value"] == load(2)["value"] == "new"
    cache._engine.memory.clear()
    assert load(1)["value"] == load(2)["value"] == "new"
    heal(bench)
    cache._engine.memory.clear()
    assert load(1)["value"] == load(2)["value"] == "new"
    recover(cache)
    cache._engine.memory.clear()
    assert load(1)["value"] == load(2)["value"] == "new"
    fresh = loader(bench.cache(*levels), source)
    assert fresh(1)["value"] == fresh(2)["value"] == "new"


def test_debt_is_paid_before_callers_are_let_through(bench):
    """When the server answers again, what it missed is told to it first."""
    cache = bench.cache("l2")
    source = Source()
    load = loader(cache, source)
    load(1)
    fail(bench)
    for user in range(10, 20):
        load(user)
    source.value = "new"
    cache.drop_sync(tags=["user:1"])
    heal(bench)
    bench.stores["l2"].asked.clear()
    recover(cache)
    assert bench.stores["l2"].asked[:2] == ["probe", "drop"]
    assert loader(bench.cache("l2"), source)(1)["value"] == "new"


def test_debt_is_bounded(bench):
    """More unpaid drops than the bound become one drop of everything, which is coarse and right."""
    cache = bench.cache("l2")
    source = Source()
    load = loader(cache, source)
    load(1)
    fail(bench)
    server = cache._engine.remote.servers[0]
    server.debt.add([f"t{number}" for number in range(20_000)], [])
    assert len(server.debt) == 1
    source.value = "new"
    cache._engine.memory.clear()
    assert load(1)["value"] == "new"
    heal(bench)
    recover(cache)
    assert loader(bench.cache("l2"), source)(1)["value"] == "new"


def test_young_values_of_l3_serve_while_l2_is_down(bench):
    """Without Redis, memcached serves values at most thirty seconds old."""
    source = Source()
    loader(bench.cache("l2", "l3"), source)(1)
    fail(bench, levels=("l2",))
    assert loader(bench.cache("l2", "l3"), source)(1)["value"] == "old"
    assert source.reads == 1
    bench.clock.advance(31)
    loader(bench.cache("l2", "l3"), source)(1)
    assert source.reads == 2


def test_values_stored_without_the_authority_are_not_trusted_with_it(bench):
    """What was stored in memcached while Redis was down carries no generations, so it ends with the outage."""
    cache = bench.cache("l2", "l3")
    source = Source()
    load = loader(cache, source)
    fail(bench, levels=("l2",))
    load(1)
    assert len(bench.stores["l3"].data) == 1
    heal(bench)
    recover(cache)
    source.value = "new"
    assert loader(bench.cache("l2", "l3"), source)(1)["value"] == "new"


def test_drop_confirmed_just_before_the_outage_counts_during_it(bench):
    """A drop that Redis confirmed holds for memcached's values after Redis has gone away."""
    cache = bench.cache("l2", "l3")
    source = Source()
    load = loader(cache, source)
    load(1)
    source.value = "new"
    cache.drop_sync(tags=["user:1"])
    fail(bench, levels=("l2",))
    assert load(1)["value"] == "new"


def test_closing_pays_or_says_what_is_owed(bench, caplog):
    """Closing tries once more, and what stays unpaid is logged."""
    cache = bench.cache("l2")
    fail(bench)
    cache.drop_sync(tags=["user"])
    cache.close()
    assert "never acknowledged" in caplog.text
    other = bench.cache("l2")
    other.drop_sync(tags=["user"])
    heal(bench)
    other.close()
    assert len(other._engine.remote.servers[0].debt) == 0


async def test_failures_in_coroutines(bench):
    """The same for coroutine functions."""
    cache = bench.cache("l2", "l3")
    source = Source()

    @cache.cached(60, tags=["user"])
    async def load(user_id: int) -> str:
        return source.read()

    fail(bench)
    assert [await load(user) for user in range(20)] == ["old"] * 20
    source.value = "new"
    await cache.drop(tags=["user"])
    assert await load(1) == "new"
