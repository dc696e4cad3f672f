"""Times that are endless, absurd or no numbers at all: cut to ten years or refused, never raised to a caller."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

import pytest

from smw.cache import Auto
from smw.cache.values.codec import Codec
from smw.errors import ConfigError
from tests.unit.cache.shapes import Shaped

ENDLESS = [math.inf, 1e18, 10**400]
LEVELS = [(), ("l2", "l3")]
SETTINGS = ["l1_ttl", "l2_ttl", "l3_ttl", "drain_s", "budget_ms", "l1_trust_ms", "warm_timeout_s"]
OPTIONS = {
    "ttl": {},
    "l1_ttl": {},
    "negative_ttl": {"cache_exceptions": (LookupError,)},
    "stale_if_error": {},
    "soft_timeout": {"stale_if_error": 5},
    "hard_timeout": {},
}


@pytest.mark.filterwarnings("ignore:ttl=.* is more than ten years")
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("value", ENDLESS, ids=["inf", "1e18", "10**400"])
@pytest.mark.parametrize("name", OPTIONS)
async def test_an_endless_time_is_ten_years(bench, name, value, levels):
    """Every option that is a time takes any, and results are kept: None and exceptions too, also for who waits."""

    async def act(number: int) -> int | None:
        await asyncio.sleep(0)
        if number == 2:
            raise LookupError
        return None if number else 5

    options = {"ttl": 60, name: value, **OPTIONS[name]}
    load = Shaped(bench.cache(*levels), ("function", "async"), act, options.pop("ttl"), **options)
    for _ in range(2):
        assert await asyncio.gather(load(0), load(0), load(1), load(1)) == [5, 5, None, None]
    assert load.runs == 2
    for _ in range(2):
        with pytest.raises(LookupError):
            await load(2)
    bench.clock.advance(86_400 * 3660)
    await load(0)
    assert load.runs == (4 if name == "negative_ttl" else 5)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(
    "value", [math.nan, -1, -(10**400), timedelta.min], ids=["nan", "-1", "-10**400", "timedelta.min"]
)
def test_what_is_no_time_is_refused(bench, name, value):
    """NaN and what is below nothing are refused where the function is decorated."""
    options = {"ttl": 60, **OPTIONS[name], name: value}
    says = "takes a number" if value != value else "negative"  # noqa: PLR0124 - NaN equals nothing
    with pytest.raises(ConfigError, match=f"{name}= .*{says}"):
        bench.cache().cached(options.pop("ttl"), **options)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("value", ENDLESS, ids=["inf", "1e18", "10**400"])
async def test_a_region_and_a_function_of_the_result_may_say_endless_too(bench, value, levels):
    """`region.put` never raises for a time to live that is too long, nor does a life that a result tells."""
    cache = bench.cache(*levels)
    region = cache.region("web")
    await region.put("k", 1, value)
    assert (await region.get("k"), await bench.cache(*levels).region("web").get("k")) == (1, 1 if levels else None)
    load = Shaped(cache, ("function", "async"), lambda number: number, lambda _result: value)
    assert [await load(1), await load(1), load.runs] == [1, 1, 1]


@pytest.mark.parametrize("bounds", [(1, math.inf), (math.nan, 5), (1, math.nan), (1, 10**400)])
def test_bounds_of_what_is_learned_are_times(bounds):
    """Bounds of a learned life that are no times are refused."""
    with pytest.raises(ConfigError, match="SMW-C151"):
        Auto(*bounds)


@pytest.mark.parametrize("value", [*ENDLESS, math.nan])
@pytest.mark.parametrize(
    "name", ["l1_ttl", "l2_ttl", "l3_ttl", "drain_s", "budget_ms", "l1_trust_ms", "warm_timeout_s"]
)
async def test_a_setting_is_taken_or_refused(bench, tmp_path, name, value):
    """A setting that is a time either is refused by its name or harms no call and no closing."""
    try:
        cache = bench.cache("l2", **{name: value}, state_dir=tmp_path)
    except ConfigError as error:
        assert name in str(error)  # noqa: PT017 - the other way is to take it
        return
    assert name.endswith("ttl")
    load = Shaped(cache, ("function", "async"), lambda number: number)
    assert [await load(1), await load(1), load.runs] == [1, 1, 1]
    await cache.aclose()


async def test_a_value_whose_life_is_learned_is_packed_once(bench, monkeypatch):
    """What tells whether it has changed is what servers get."""
    packed, pack = [], Codec.pack
    monkeypatch.setattr(Codec, "pack", lambda self, value, found=None: packed.append(value) or pack(self, value, found))
    cache = bench.cache("l2")
    load = Shaped(cache, ("function", "sync"), lambda number: {"a": [number]}, "auto")
    await load(1)

    @cache.writes(load.fn, arguments=lambda number: {"number": number})
    def change(number: int) -> dict:
        return {"a": [number, number]}

    change(1)
    assert packed == [{"a": [1]}, {"a": [1, 1]}]
