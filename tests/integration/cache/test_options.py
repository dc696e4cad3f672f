"""The options of one decorator over real Redis and memcached: what each level keeps, how long, what it is good for."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from functools import partial

import pytest

from smw import cache as cache_module
from smw.errors import LoadTimeout
from tests.unit.cache.shapes import SHAPES, Shaped

pytestmark = [pytest.mark.service("redis"), pytest.mark.service("memcached")]
LEVELS = [("l2",), ("l3",), ("l2", "l3")]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids="-".join)
each_level = pytest.mark.parametrize("levels", LEVELS, ids=str)


class Origin:
    """A source that can be down."""

    def __init__(self) -> None:
        self.is_down = False

    def __call__(self, number: int) -> dict | None:
        if self.is_down:
            raise ConnectionError(number)
        return {"number": number} if number else None


@each_shape
@each_level
async def test_an_expired_result_of_a_server_stands_in_and_a_dropped_one_does_not(steady, shape, levels):
    """Another process, whose source is down, takes what has expired, until somebody drops it."""
    here, there = Origin(), Origin()
    first = Shaped(steady(*levels), shape, here, 0.2, stale_if_error=100, tags=["t"])
    cache = steady(*levels)
    second = Shaped(cache, shape, there, 0.2, stale_if_error=100, tags=["t"])
    assert await first() == {"number": 1}
    there.is_down = True
    await asyncio.sleep(0.25)
    assert await second() == {"number": 1}
    assert cache_module.info(second.fn).stale[levels[0]] == 1
    first.cache.drop_sync(tags=["t"])
    with pytest.raises(ConnectionError):
        await second()
    await cache.aclose(), await first.cache.aclose()


async def test_each_result_lives_as_long_as_it_says(steady):
    """Times told by the result, and that of None, hold on servers as well; what is not kept never gets there."""
    options = {"negative_ttl": 2.2, "unless": lambda result: bool(result) and result["number"] == 3}

    def process(levels) -> Shaped:
        lives = lambda result: 2.2 if result["number"] == 1 else 100  # noqa: E731
        apart = lambda number: f"{levels} {number}"  # noqa: E731
        return Shaped(steady(*levels), ("function", "async"), Origin(), lives, key=apart, **options)

    async def numbers(load) -> int:
        for number in range(4):
            await load(number)
        return load.runs

    for levels in LEVELS:
        assert [await numbers(process(levels)) for _ in range(2)] == [4, 1]
    await asyncio.sleep(2.3)
    for levels in LEVELS:
        assert await numbers(process(levels)) == 3


@each_level
async def test_exceptions_never_reach_a_server(steady, levels):
    """A kept exception is this process's alone."""
    loads = [
        Shaped(steady(*levels), ("function", "sync"), Origin(), cache_exceptions=OSError, negative_ttl=60) for _ in "ab"
    ]
    loads[0]._act.is_down = True
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await loads[0]()
    assert loads[0].runs == 1
    assert await loads[1]() == {"number": 1}


@pytest.mark.timed
@each_shape
async def test_of_two_processes_one_loads_anew_and_the_other_takes_what_it_stored(steady, shape):
    """A result is loaded anew before its end, and the newer one is on every level."""
    await asyncio.gather(*(_anew(partial(steady, *levels, namespace=uuid.uuid4().hex), shape) for levels in LEVELS))


async def _anew(begun, shape):
    runs = itertools.count(1)
    lives = lambda result: 10 if result["run"] == 1 else 600  # noqa: E731 - so that the newer one is not due again
    loads = [Shaped(begun(), shape, lambda _: {"run": next(runs)}, lives, refresh_ahead=0.1) for _ in "abc"]
    one, two, fresh = loads
    assert await one() == await two() == {"run": 1}
    await asyncio.sleep(1.05)
    for load in (one, two):
        for _ in range(1000):
            if await load() == {"run": 2}:
                break
            await asyncio.sleep(0.01)
        assert await load() == {"run": 2}
    assert await fresh() == {"run": 2}
    assert [load.runs for load in loads] == [2, 0, 0]
    for load in loads:
        await load.cache.aclose()


@each_level
async def test_the_load_goes_on_when_everybody_has_left_and_fills_the_levels(steady, levels):
    """After `soft_timeout` the expired result of a server, after `hard_timeout` an error; then the new result."""
    gate = asyncio.Event()

    async def act(number: int) -> int:
        await gate.wait()
        return load.runs

    async def at_once(number: int) -> int:
        return 0

    options = {"soft_timeout": 0.02, "hard_timeout": 0.2, "stale_if_error": 100}
    first = Shaped(steady(*levels), ("function", "async"), at_once, 0.1, **options)
    await first(1)
    await asyncio.sleep(0.15)
    load = Shaped(steady(*levels), ("function", "async"), act, 100, **options)
    assert await load(1) == 0
    with pytest.raises(LoadTimeout):
        await load(2)
    gate.set()
    for _ in range(1000):
        if cache_module.info(load.fn).entries == 2:
            break
        await asyncio.sleep(0.01)
    assert await asyncio.gather(load(1), load(2)) == [2, 2]
    assert load.runs == 2
    other = Shaped(steady(*levels), ("function", "async"), act, 100, **options)
    await other(1), await other(2)
    assert other.runs == 0
    for each in (first, load, other):
        await each.cache.aclose()
