"""Results that are loaded anew before they expire: who loads, what everybody else gets, and when it begins."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from smw import cache as cache_module
from smw.cache import Cache
from smw.cache.loading.refresh import WORTH_S, Ahead, ahead_of
from smw.cache.loading.stale import REST_S
from tests.unit.cache.shapes import SHAPES, Shaped

each_shape = pytest.mark.parametrize("shape", SHAPES, ids="-".join)
each_level = pytest.mark.parametrize("levels", [(), ("l2",), ("l3",), ("l2", "l3")], ids=str)
SYNC, ASYNC = ("function", "sync"), ("function", "async")


class Origin:
    """A source whose value changes and that can be down."""

    def __init__(self) -> None:
        self.value, self.error = "old", None

    def __call__(self, number: int) -> dict:
        if self.error is not None:
            raise self.error
        return {"number": number, "value": self.value}


@pytest.fixture
def origin():
    return Origin()


async def idle() -> None:
    """Let what runs in the background come to its end."""
    for _ in range(20):
        await asyncio.sleep(0)


@each_shape
@each_level
async def test_after_its_share_of_the_time_a_result_is_loaded_anew(bench, origin, shape, levels):
    """Nobody waits for the new one but the thread that loads it, and its life begins anew on every level."""
    cache = bench.cache(*levels, l1_trust_ms=100_000)
    load = Shaped(cache, shape, origin, 60, refresh_ahead=0.5)
    await load()
    origin.value = "new"
    bench.clock.advance(29)
    assert (await load())["value"] == "old"
    await idle()
    assert load.runs == 1
    bench.clock.advance(2)
    assert (await load())["value"] == ("new" if shape[1] == "sync" else "old")
    await idle()
    assert load.runs == 2
    bench.clock.advance(29)
    assert (await load())["value"] == "new"
    assert load.runs == 2
    for store in bench.stores.values():
        assert max(ends for _, ends in store.data.values()) - bench.clock.now() > 29
    other = Shaped(bench.cache(*levels), shape, origin, 60)
    if levels:
        assert (await other())["value"] == "new"
        assert other.runs == 0
    info = cache_module.info(load.fn)
    assert (info.hits["l1"], info.misses["l1"]) == (3, 1)
    assert refreshes(cache) == {"ok": 1}


def refreshes(cache) -> dict[str, float]:
    return {dict(f.labels)["outcome"]: f.value for f in cache.host.facts if f.name == "smw_cache_refreshes_total"}


@each_level
async def test_it_is_loaded_anew_also_where_memory_has_to_ask_each_time(bench, origin, levels):
    """Calls that are rarer than memory's trust notice what is due as well."""
    load = Shaped(bench.cache(*levels, l1_trust_ms=10), ASYNC, origin, 60, refresh_ahead=0.5)
    await load()
    bench.clock.advance(31)
    await load()
    await idle()
    assert load.runs == 2


def gated(cache):
    """Return a loader whose source answers while its gate is open, and that gate, which is open at first."""
    gate = asyncio.Event()
    gate.set()

    async def act(number: int) -> int:
        await gate.wait()
        return load.runs

    load = Shaped(cache, ASYNC, act, 60, refresh_ahead=0.5)
    return load, gate


async def test_a_hundred_callers_cause_one_load_and_none_of_them_waits(cache, bench):
    """They all get the present value while it loads."""
    load, gate = gated(cache)
    await load()
    gate.clear()
    bench.clock.advance(31)
    assert await asyncio.wait_for(asyncio.gather(*[load() for _ in range(100)]), 5) == [1] * 100
    gate.set()
    await idle()
    assert (await load(), load.runs) == (2, 2)


async def test_who_comes_after_the_end_waits_for_the_load_that_is_under_way(cache, bench):
    """A refresh that outlasts the life of the value is the one load of those who come then."""
    load, gate = gated(cache)
    await load()
    gate.clear()
    bench.clock.advance(31)
    await load()
    bench.clock.advance(30)
    waiting = asyncio.gather(*[load() for _ in range(10)])
    await idle()
    gate.set()
    assert await waiting == [2] * 10
    assert load.runs == 2


def test_of_many_threads_one_loads_and_the_others_go_on(cache, bench):
    """A blocking function is loaded by the thread that came first, never by another one."""
    gate, loading = threading.Event(), threading.Event()
    threads = []

    @cache.cached(60, refresh_ahead=0.5)
    def load(number: int) -> int:
        threads.append(threading.current_thread())
        if len(threads) > 1:
            loading.set()
            assert gate.wait(5)
        return len(threads)

    load(1)
    bench.clock.advance(31)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(load, 1)
        assert loading.wait(5)
        assert [load(1) for _ in range(5)] == [1] * 5
        gate.set()
        assert first.result(5) == 2
    assert load(1) == 2
    assert len(threads) == 2


@each_shape
@each_level
@pytest.mark.parametrize("here", [True, False])
async def test_what_is_dropped_while_it_loads_anew_is_not_kept(bench, origin, shape, levels, here):
    """A drop during a refresh, by this process or another, dooms it."""
    cache = bench.cache(*levels)
    dropper = cache if here or not levels else bench.cache(*levels)

    def act(number: int) -> dict:
        result = origin(number)
        if load.runs == 2:
            dropper.drop_sync(tags=["t"])
            origin.value = "newest"
        return result

    load = Shaped(cache, shape, act, 60, refresh_ahead=0.5, tags=["t"])
    await load()
    origin.value = "new"
    bench.clock.advance(31)
    await load()
    await idle()
    assert load.runs == 2
    bench.clock.advance(1.1)
    assert (await load())["value"] == "newest"
    assert load.runs == 3


@each_shape
@each_level
async def test_where_loading_anew_fails_the_present_result_stands(bench, origin, shape, levels, caplog):
    """Its life goes on, the source has a rest before the next attempt, and one warning says so."""
    cache = bench.cache(*levels)
    load = Shaped(cache, shape, origin, 60, refresh_ahead=0.5)
    await load()
    origin.error = ConnectionError()
    bench.clock.advance(31)
    with caplog.at_level(logging.WARNING, "smw.cache"):
        for _ in range(3):
            assert (await load())["value"] == "old"
            await idle()
        assert load.runs == 2
        bench.clock.advance(REST_S + 0.1)
        assert (await load())["value"] == "old"
        await idle()
    assert load.runs == 3
    assert len(caplog.records) == 1
    assert "ConnectionError" in caplog.text
    assert refreshes(cache) == {"failed": 2}
    bench.clock.advance(29)
    with pytest.raises(ConnectionError):
        await load()


@each_shape
async def test_a_result_that_is_not_kept_ends_no_life(bench, cache, origin, shape):
    """A refresh whose result `unless` rejects leaves the present one, and is not tried again at once."""
    load = Shaped(cache, shape, origin, 60, refresh_ahead=0.5, unless=lambda result: result["value"] == "bad")
    await load()
    origin.value = "bad"
    bench.clock.advance(31)
    for _ in range(5):
        await load()
        await idle()
    assert load.runs == 2
    origin.value = "good"
    bench.clock.advance(REST_S + 0.1)
    await load()
    await idle()
    assert (await load())["value"] == "good"


@pytest.mark.parametrize("shape", [SYNC, ASYNC], ids="-".join)
async def test_an_exception_that_is_an_answer_takes_the_place_of_the_result(bench, cache, origin, shape):
    """One of `cache_exceptions` is kept when it comes from a refresh."""
    load = Shaped(cache, shape, origin, 60, refresh_ahead=0.5, cache_exceptions=KeyError, negative_ttl=5)
    await load()
    origin.error = KeyError("gone")
    bench.clock.advance(31)
    if shape == SYNC:
        with pytest.raises(KeyError):
            await load()
    else:
        await load()
        await idle()
    with pytest.raises(KeyError):
        await load()
    assert load.runs == 2


async def test_a_newer_value_of_a_server_is_taken_instead_of_loading(bench, origin):
    """Of two processes one loads anew, and the other finds what it has stored."""
    loads = [Shaped(bench.cache("l2", l1_trust_ms=100_000), ASYNC, origin, 60, refresh_ahead=0.5) for _ in range(2)]
    for load in loads:
        await load()
    origin.value = "new"
    bench.clock.advance(31)
    for load in loads:
        await load()
        await idle()
    assert [load.runs for load in loads] == [2, 0]
    assert [(await load())["value"] for load in loads] == ["new", "new"]


async def test_methods_of_instances_without_identity_are_refreshed(bench, cache):
    """What lives in memory alone and dies with its instance is loaded anew like everything else."""

    class Service:
        def __init__(self) -> None:
            self.runs = 0

        @cache.cached(60, refresh_ahead=0.5)
        async def load(self, number: int) -> int:
            self.runs += 1
            return self.runs

    one = Service()
    await one.load(1)
    bench.clock.advance(31)
    assert await one.load(1) == 1
    await idle()
    assert await one.load(1) == 2
    del one
    gc.collect()
    assert cache_module.info(Service.load).entries == 0


@pytest.mark.parametrize(
    ("share", "options", "profile", "calls"),
    [
        (None, {}, "development", 2), (None, {}, "production", 2), (None, {}, "testing", 1), (0, {}, "production", 1),
        (None, {"key": lambda number: number}, "production", 1), (0.95, {"key": lambda n: n}, "production", 2),
        (0.95, {}, "testing", 2),
    ],
)  # fmt: skip
async def test_by_default_only_functions_of_plain_values_are_refreshed(bench, share, options, profile, calls):
    """Where arguments may belong to a request, and in tests, nothing is loaded behind the caller's back unasked."""
    cache = bench.cache(profile=profile, jitter=0.0)
    load = Shaped(cache, ASYNC, slow_by(bench, 6.0), 60, refresh_ahead=share, **options)
    await load()
    bench.clock.advance(59.5)
    for _ in range(60):
        await load()
        await idle()
    assert load.runs == calls


async def test_by_default_methods_are_not_refreshed(bench):
    """Their instance may belong to a request."""
    load = Shaped(bench.cache(profile="production", jitter=0.0), ("method", "async"), slow_by(bench, 6.0), 60)
    await load()
    bench.clock.advance(59.5)
    for _ in range(60):
        await load()
        await idle()
    assert load.runs == 1


def slow_by(bench, seconds: float):
    async def act(number: int) -> int:
        bench.clock.advance(seconds)
        return number

    return act


def test_chance_grows_with_the_time_a_load_takes_and_with_the_nearness_of_the_end():
    """One call in e is told to one load before the end, nearly none eight loads before it, every one at the end."""
    ahead = ahead_of(0.0, ends=100.0, life_s=90.0, took_s=2.0)
    draws = [n / 1000 for n in range(1000)]

    def share(now: float) -> float:
        return sum(ahead.is_due(now, lambda draw=draw: draw) for draw in draws) / 1000

    assert ahead.at == 84.0
    assert share(83.9) == 0.0
    assert share(84.0) < 0.002
    assert share(98.0) == pytest.approx(1 / 2.718, abs=0.01)
    assert share(99.0) == pytest.approx(0.606, abs=0.01)
    assert share(100.0) == 1.0


def test_what_loads_at_once_is_not_worth_it():
    """Below ten milliseconds nobody gains from a refresh, and slow loads begin in the second half of a life."""
    assert ahead_of(0.0, ends=100.0, life_s=60.0, took_s=WORTH_S * 0.9) is None
    assert ahead_of(0.0, ends=100.0, life_s=60.0, took_s=50.0).at == 70.0
    assert ahead_of(None, ends=100.0, life_s=60.0, took_s=5.0) is None
    assert ahead_of(0.75, ends=100.0, life_s=40.0, took_s=0.0) == Ahead(90.0, 100.0, 0.0)


async def test_closing_ends_loads_in_the_background(bench, cache):
    """`aclose` waits until a refresh under way has ended."""
    ended = []

    async def act(number: int) -> int:
        if load.runs > 1:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(number)
        return number

    load = Shaped(cache, ASYNC, act, 60, refresh_ahead=0.5)
    await load()
    bench.clock.advance(31)
    await load()
    await idle()
    await cache.aclose()
    assert ended == [1]


def test_a_loop_that_ends_takes_its_refreshes_along_without_a_word(bench, cache, recwarn, caplog):
    """The next loop serves on, and nothing is reported of the first one's task."""

    async def act(number: int) -> int:
        if load.runs > 1:
            await asyncio.sleep(60)
        return number

    load = Shaped(cache, ASYNC, act, 60, refresh_ahead=0.5)

    async def main() -> int:
        await load()
        bench.clock.advance(15)
        return await load()

    assert [asyncio.run(main()) for _ in range(3)] == [1, 1, 1]
    cache.close()
    gc.collect()
    assert (list(recwarn), caplog.records) == ([], [])


def test_on_the_real_clock_a_hit_in_the_refresh_window_does_not_wait():
    """A load of 50 ms begins before the end without anybody waiting for it."""
    cache = Cache()
    runs = []

    @cache.cached(0.4, refresh_ahead=0.5)
    async def load(number: int) -> int:
        runs.append(number)
        await asyncio.sleep(0.05)
        return len(runs)

    async def main() -> list[int]:
        seen = [await load(1)]
        await asyncio.sleep(0.25)
        seen.append(await load(1))
        await asyncio.sleep(0.1)
        seen.append(await load(1))
        return seen

    assert asyncio.run(main()) == [1, 1, 2]
    cache.close()
