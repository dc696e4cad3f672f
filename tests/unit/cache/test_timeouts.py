"""How long callers wait for a load: what they get instead, and that the load goes on and fills the levels."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from smw import cache as cache_module
from smw._kernel.signals import CacheStale
from smw.errors import LoadTimeout
from tests.unit.cache.shapes import Shaped

ASYNC = [("function", "async"), ("method", "async")]
each_shape = pytest.mark.parametrize("shape", ASYNC, ids="-".join)
each_level = pytest.mark.parametrize("levels", [(), ("l2",), ("l3",), ("l2", "l3")], ids=str)
SOON_S = 0.02


class Slow:
    """A source that answers when it is let."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.value = "old"

    async def __call__(self, number: int) -> dict:
        await self.gate.wait()
        return {"number": number, "value": self.value}


@pytest.fixture
def origin():
    return Slow()


async def landed(load) -> None:
    """Wait until nothing is being loaded."""
    stack = load.fn.__smw_stack__
    function = next(advice for advice in stack.advices if advice.name == "cached").function(stack.target)
    while len(function._flights):  # noqa: ASYNC110 - nobody else would tell
        await asyncio.sleep(0.001)


def ended(cache) -> dict[str, float]:
    facts = [fact for fact in cache.host.facts if fact.name == "smw_cache_load_timeouts_total"]
    return {dict(fact.labels)["kind"]: fact.value for fact in facts}


@each_shape
@each_level
async def test_after_the_soft_timeout_the_expired_result_is_handed_out(bench, origin, shape, levels, caplog):
    """Each caller waits that long at most, one load runs, and what it brings is kept."""
    cache = bench.cache(*levels)
    load = Shaped(cache, shape, origin, 60, stale_if_error=1000, soft_timeout=SOON_S)
    await load()
    origin.value = "new"
    origin.gate.clear()
    bench.clock.advance(61)
    results = await asyncio.wait_for(asyncio.gather(*[load() for _ in range(5)]), 5)
    assert [result["value"] for result in results] == ["old"] * 5
    assert (await load())["value"] == "old"
    assert load.runs == 2
    origin.gate.set()
    await landed(load)
    assert (await load())["value"] == "new"
    assert load.runs == 2
    assert ended(cache) == {"soft": 6}
    assert sum(cache_module.info(load.fn).stale.values()) == 6
    assert {signal.reason for signal in cache.recorded.of(CacheStale)} == {"timeout"}
    assert caplog.text.count("takes longer than its callers wait: its expired results are handed out meanwhile") == 1
    assert "failed" not in caplog.text


@each_shape
async def test_a_load_that_is_fast_enough_is_waited_for(cache, bench, origin, shape):
    """The expired result is handed out only to those who would wait longer."""
    load = Shaped(cache, shape, origin, 60, stale_if_error=1000, soft_timeout=5, hard_timeout=10)
    await load()
    origin.value = "new"
    bench.clock.advance(61)
    assert (await load())["value"] == "new"
    assert ended(cache) == {}


@each_shape
@each_level
async def test_after_the_hard_timeout_an_error_says_so_and_the_load_goes_on(bench, origin, shape, levels):
    """Who comes later finds what it brought."""
    cache = bench.cache(*levels)
    load = Shaped(cache, shape, origin, 60, hard_timeout=SOON_S)
    origin.gate.clear()
    calls = await asyncio.wait_for(asyncio.gather(*[load() for _ in range(5)], return_exceptions=True), 5)
    assert [type(error) for error in calls] == [LoadTimeout] * 5
    assert cache_module.info(load.fn).misses["l1"] == 5
    assert isinstance(calls[0], TimeoutError)
    assert "hard_timeout=0.02 s" in str(calls[0])
    assert "SMW-C153" in str(calls[0])
    origin.gate.set()
    await landed(load)
    assert (await load())["value"] == "old"
    assert load.runs == 1
    assert ended(cache) == {"hard": 5}


@each_shape
async def test_callers_who_share_no_load_wait_no_longer_either(bench, cache, origin, shape):
    """With flight="off" each caller has a load of its own, and leaves it after the same time."""
    load = Shaped(cache, shape, origin, 60, flight="off", stale_if_error=100, soft_timeout=SOON_S, hard_timeout=0.05)
    origin.gate.clear()
    results = await asyncio.wait_for(asyncio.gather(load(), load(), return_exceptions=True), 5)
    assert [type(result) for result in results] == [LoadTimeout] * 2
    assert load.runs == 2
    origin.gate.set()
    await landed(load)
    origin.gate.clear()
    bench.clock.advance(61)
    assert (await asyncio.wait_for(load(), 5))["value"] == "old"
    origin.gate.set()
    await landed(load)


async def test_where_there_is_nothing_to_hand_out_the_wait_goes_on_to_the_hard_timeout(bench, cache, origin):
    """The soft timeout gives what has expired; without such a result only the hard one ends the wait."""
    load = Shaped(cache, ASYNC[0], origin, 60, stale_if_error=1000, soft_timeout=SOON_S, hard_timeout=2 * SOON_S)
    origin.gate.clear()
    with pytest.raises(LoadTimeout):
        await asyncio.wait_for(load(), 5)
    origin.gate.set()
    await landed(load)
    origin.gate.clear()
    bench.clock.advance(61)
    assert (await load())["value"] == "old"


async def test_the_hard_timeout_alone_hands_out_what_has_expired(bench, cache, origin):
    """An expired result is better than an error."""
    load = Shaped(cache, ASYNC[0], origin, 60, stale_if_error=1000, hard_timeout=SOON_S)
    await load()
    origin.gate.clear()
    bench.clock.advance(61)
    assert (await load())["value"] == "old"
    origin.gate.set()


@each_level
@pytest.mark.parametrize("here", [True, False])
async def test_what_was_dropped_while_it_was_waited_for_is_not_handed_out(bench, origin, levels, here):
    """The servers are asked at the moment of the timeout, not before the load."""
    cache = bench.cache(*levels)
    dropper = cache if here or not levels else bench.cache(*levels)
    load = Shaped(
        cache, ASYNC[0], origin, 60, stale_if_error=1000, soft_timeout=SOON_S, hard_timeout=3 * SOON_S, tags=["t"]
    )
    await load()
    origin.value = "new"
    origin.gate.clear()
    bench.clock.advance(61)
    waiting = asyncio.create_task(load())
    await asyncio.sleep(SOON_S / 4)
    dropper.drop_sync(tags=["t"])
    with pytest.raises(LoadTimeout):
        await waiting
    origin.gate.set()


async def test_a_load_dropped_after_its_callers_left_is_not_kept(bench, cache, origin):
    """That nobody waits for it any more makes no difference to the fence."""
    load = Shaped(cache, ASYNC[0], origin, 60, hard_timeout=SOON_S, tags=["t"])
    origin.gate.clear()
    with pytest.raises(LoadTimeout):
        await load()
    cache.drop_sync(tags=["t"])
    origin.gate.set()
    await landed(load)
    origin.value = "new"
    assert (await load())["value"] == "new"


async def test_the_load_survives_the_cancellation_of_those_who_still_wait(cache, origin):
    """One who has left by its timeout does not come back to cancel it, and nor do the others."""
    load = Shaped(cache, ASYNC[0], origin, 60, hard_timeout=SOON_S)
    origin.gate.clear()
    with pytest.raises(LoadTimeout):
        await load()
    other = asyncio.create_task(load())
    await asyncio.sleep(SOON_S / 4)
    other.cancel()
    origin.gate.set()
    await landed(load)
    assert load.runs == 1
    assert (await load())["value"] == "old"


@pytest.mark.parametrize("hard", [True, False])
def test_threads_that_wait_for_another_ones_load_leave_too(bench, cache, hard):
    """The thread that loads stays, for its function cannot be interrupted."""
    gate, loading = threading.Event(), threading.Event()
    gate.set()
    options = {"hard_timeout": SOON_S} if hard else {"soft_timeout": SOON_S, "stale_if_error": 1000}

    @cache.cached(60, **options)
    def load(number: int) -> int:
        loading.set()
        assert gate.wait(5)
        return number

    if not hard:
        assert load(1) == 1
        bench.clock.advance(61)
    gate.clear()
    loading.clear()
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(load, 1)
        assert loading.wait(5)
        follower = pool.submit(load, 1)
        if hard:
            assert isinstance(follower.exception(5), LoadTimeout)
        else:
            assert follower.result(5) == 1
        assert not leader.done()
        gate.set()
        assert leader.result(5) == 1
    assert load(1) == 1


async def test_closing_ends_a_load_that_everybody_has_left(cache, origin):
    """`aclose` waits until it has ended."""
    load = Shaped(cache, ASYNC[0], origin, 60, hard_timeout=SOON_S)
    origin.gate.clear()
    with pytest.raises(LoadTimeout):
        await load()
    await cache.aclose()
    await asyncio.wait_for(landed(load), 1)
