"""What a failing server costs and what it never costs: a value, or the truth about an invalidation."""

from __future__ import annotations

import os
import sys
import threading
import time

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


def test_server_that_answers_too_late_is_not_back(bench):
    """A probe that takes longer than a caller would wait lets nobody through: each would wait as long, in vain."""
    cache = bench.cache("l2")
    load = loader(cache, Source())
    fail(bench)
    for user in range(FAILURES):
        load(user)
    heal(bench)
    store = bench.stores["l2"]
    store.probe = lambda: bench.clock.advance(0.3)
    recover(cache)
    assert cache.backends() == {"local": False}
    store.probe = lambda: bench.clock.advance(0.001)
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
    server.wake()
    assert len(server.debt) == 1
    source.value = "new"
    cache._engine.memory.clear()
    assert load(1)["value"] == "new"
    heal(bench)
    recover(cache)
    assert loader(bench.cache("l2"), source)(1)["value"] == "new"


def test_a_drop_of_many_scopes_that_is_acknowledged_leaves_nothing_owed(bench):
    """The bound is for what a server has not acknowledged; what it has is struck, however much it was."""
    cache = bench.cache("l2")
    source = Source()
    load = loader(cache, source)
    server = cache._engine.remote.servers[0]
    cache.drop_sync(keys=[cache_module.key_for(load, number) for number in range(12_000)], tags=["user"])
    assert not server.debt
    owed = [server.debt.add([f"t{number}", f"u{number}", f"v{number}"], []) for number in range(4_000)]
    for each in owed:
        server.debt.settle(each)
    assert not server.debt
    load(1)
    assert loader(bench.cache("l2"), source)(1) == load(1)
    assert source.reads == 1


def until(true, within_s: float = 10.0) -> bool:
    """Wait for what a background thread does."""
    end = time.monotonic() + within_s
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    return true()


@pytest.mark.parametrize("opens", [False, True])
def test_a_forked_child_pays_the_drop_that_was_under_way(bench, opens):
    """It inherits what was owed and nobody who pays it; its first look at a server sees to that."""
    cache = bench.cache("l2")
    source = Source()
    load = loader(cache, source)
    load(1)
    server = cache._engine.remote.servers[0]
    server.debt.add(["everything"] if opens else [], [cache_module.key_for(load, 1)])
    if opens:
        server.debt.add([server._everything], [])
        fail(bench)
        for _ in range(FAILURES):
            server.breaker.failed("timeout")
        heal(bench)
    child = os.fork()
    if child == 0:
        cache._engine.memory.clear()
        load(1)
        os._exit(0 if until(lambda: not server.debt and not server.breaker.is_open) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_at_the_limit_of_threads_no_caller_fails_and_all_is_made_up_for(bench, monkeypatch):
    """Where no thread can be had for probing and paying, it is tried again as soon as somebody calls."""
    cache = bench.cache("l2")
    source = Source()
    load = loader(cache, source)
    server = cache._engine.remote.servers[0]
    first = []
    server.first = lambda: first.append(1)

    def refused(_thread):
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as limit:
        limit.setattr(threading.Thread, "start", refused)
        load(0)
        fail(bench)
        for user in range(20):
            load(user)
            cache.drop_sync(tags=[f"user:{user}"])
        server._lagged()
    assert server.breaker.is_open
    assert len(server.debt) == 20
    heal(bench)
    load(100)
    assert until(lambda: not server.breaker.is_open and not server.debt)
    load(101)
    assert until(lambda: first == [1])


def test_what_nobody_could_be_found_to_pay_is_paid_after_the_next_drop(bench, monkeypatch):
    """The server answers all the while, so no probe would pay."""
    cache = bench.cache("l2")
    server = cache._engine.remote.servers[0]
    with monkeypatch.context() as limit:
        limit.setattr("smw.cache.levels.level.in_background", lambda _work, _name: None)
        fail(bench, kind="full", counts=False)
        cache.drop_sync(tags=["user:1"])
    heal(bench)
    assert len(server.debt) == 1
    cache.drop_sync(tags=["user:2"])
    assert until(lambda: not server.debt)


def at_each_line(run, interrupt) -> int:
    """Run something in a thread, and `interrupt` in it at every line of the package, as a signal handler may."""
    count, inside = 0, False

    def step(_frame, event, _arg):
        nonlocal count, inside
        if event == "line" and not inside:
            inside, count = True, count + 1
            try:
                interrupt()
            finally:
                inside = False
        return step

    def enter(frame, _event, _arg):
        name = frame.f_globals.get("__name__", "")
        return step if name.startswith("smw.") and not inside else None

    def traced():
        sys.settrace(enter)
        try:
            run()
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=traced, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it waits for itself"
    return count


def test_a_signal_handler_may_drop_in_the_middle_of_anything(bench):
    """A drop takes no lock that the thread which it interrupts could hold for good."""
    cache = bench.cache("l2")
    source = Source()
    load = loader(cache, source)
    server = cache._engine.remote.servers[0]
    load(1)

    def run() -> None:
        load(2)
        load(2)
        cache.drop_sync(tags=["user:1"], keys=[cache_module.key_for(load, 1)])
        fail(bench)
        cache.drop_sync(tags=["user:3"])
        heal(bench)
        server.pay()

    assert at_each_line(run, lambda: cache.drop_sync(tags=["user:1", "other"])) > 300
    until(lambda: not server.debt)
    assert not server.debt


def test_a_drop_of_a_signal_handler_stays_owed_beside_one_that_is_just_being_settled(bench):
    """Settling strikes what was acknowledged, and nothing that was dropped again meanwhile."""
    cache = bench.cache("l2")
    debt = cache._engine.remote.servers[0].debt
    was, owed = debt.add(["t"], []), []

    def dropped_again() -> None:
        if not owed:
            owed.append(debt.add(["t"], []))

    class Interrupted(dict):
        def pop(self, *args):
            dropped_again()
            return super().pop(*args)

    debt._counters = Interrupted(debt._counters)
    debt.settle(was)
    assert debt.covers(["t"])
    debt.settle(owed[0])
    assert not debt


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("levels", [("l2",), ("l3",)])
def test_a_caller_who_is_kept_for_seconds_is_kept_no_second_time(bench, monkeypatch, levels, answers):
    """A name that is looked up slowly blocks the client for longer than its time-out; the breaker counts it."""
    cache = bench.cache(*levels)
    load = loader(cache, Source())
    store = bench.stores[levels[0]]

    def slow(what):
        store.asked.append(what)
        bench.clock.advance(3)
        if not answers:
            raise StoreFailedError("connection")

    monkeypatch.setattr(store, "_enter", slow)
    for user in range(8):
        load(user)
    assert len([what for what in store.asked if what != "probe"]) == 1
    assert not all(cache.backends().values())


def test_young_values_of_l3_serve_while_l2_is_down(bench):
    """Without Redis, memcached serves values at most thirty seconds old."""
    source = Source()
    loads = [loader(bench.cache("l2", "l3"), source) for _ in range(3)]
    for load in loads:
        load(2)
    loads[0](1)
    reads = source.reads
    fail(bench, levels=("l2",))
    assert loads[1](1)["value"] == "old"
    assert source.reads == reads
    bench.clock.advance(31)
    loads[2](1)
    assert source.reads == reads + 1


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
