"""A cache that is switched off: every call goes past it, and what others still use is kept right."""

from __future__ import annotations

import logging
import time

import pytest

from smw import cache as cache_module
from smw.errors import ConfigError
from tests.unit.cache.test_levels import Source, loader


async def test_every_call_runs_the_function(bench):
    """Nothing is read, kept or shared, in blocking code and in coroutines, and the calls are counted as bypassed."""
    off, source = bench.cache("l2", "l3", enabled=False), Source()
    get = loader(off, source)
    assert [get(1)["value"], get(1)["value"]] == ["old", "old"]
    assert source.reads == 2
    asked = []

    @off.cached(60)
    async def load(number: int) -> int:
        asked.append(number)
        return number

    assert [await load(1), await load(1)] == [1, 1]
    assert asked == [1, 1]
    told = cache_module.info(load)
    assert (told.bypassed, told.levels, told.entries) == (2, (), 0)
    assert [store.asked for store in bench.stores.values()] == [[], []]


def test_what_servers_have_is_not_taken(bench):
    """A value that another process has stored is not read, by a call or by its key; `why` says so."""
    source = Source()
    loader(bench.cache("l2"), source)(1)
    off = bench.cache("l2", enabled=False)
    get = loader(off, source)
    get(1)
    assert source.reads == 2
    key = cache_module.key_for(get, 1)
    assert off.peek_sync(key, "nothing") == "nothing"
    assert off.why_sync(key).served_by is None


def test_drops_reach_the_others(bench):
    """Other processes may still use the servers, and this one will again: what is dropped is dropped there."""
    source = Source()
    on, off = bench.cache("l2", "l3"), bench.cache("l2", "l3", enabled=False)
    loader(on, source)(1)
    source.value = "second"
    off.drop_sync(tags=["user:1"])
    assert loader(bench.cache("l2", "l3"), source)(1)["value"] == "second"
    with pytest.raises(ConfigError, match="SMW-C110"):
        off.drop_sync(tags="user:1")


@pytest.mark.parametrize("strategy", ["write_through", "write_around", "write_back"])
def test_writes_go_to_the_source(bench, strategy):
    """A write is made before the call returns, whatever the strategy, and the older value on a server is dropped."""
    names = {1: "old"}

    def name_of(user_id: int) -> str:
        return names[user_id]

    def rename(user_id: int, name: str) -> str:
        names[user_id] = name
        return name

    on, off = bench.cache("l2"), bench.cache("l2", enabled=False)
    on.cached(60)(name_of)(1)
    get = off.cached(60)(name_of)
    value = {"value": lambda _result, arguments: arguments["name"]} if strategy == "write_back" else {}
    off.writes(get, strategy=strategy, **value)(rename)(1, "new")
    assert names == {1: "new"}
    assert get(1) == "new"
    assert bench.cache("l2").cached(60)(name_of)(1) == "new"


def test_what_is_acknowledged_already_comes_first(bench, tmp_path):
    """A write to a key with an acknowledged one before it waits behind that, rather than being overtaken by it."""
    written, is_down = [], [True]

    def name_of(user_id: int) -> str:
        return str(user_id)

    def rename(user_id: int, name: str) -> None:
        if is_down:
            raise ConnectionError
        written.append(name)

    back = {"strategy": "write_back", "value": lambda _result, arguments: arguments["name"]}
    on = bench.cache(state_dir=tmp_path, drain_s=0)
    on.writes(on.cached(60)(name_of), **back)(rename)(1, "acknowledged")
    on.close()
    is_down.clear()
    off = bench.cache(state_dir=tmp_path, enabled=False)
    get = off.cached(60)(name_of)
    renamed = off.writes(get, **back)(rename)
    renamed(1, "newest")
    for _ in range(1000):  # whoever has the older one now writes the newest in its stead
        if "newest" in written:
            break
        bench.clock.advance(1)
        off.behind.tick()
        time.sleep(0.01)
    assert written[-1] == "newest"


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_many_are_loaded_together_all_the_same(bench, mode):
    """`many=` spares the source questions, cache or not."""
    off, asked = bench.cache("l2", enabled=False), []

    def all_of(numbers: list[int]) -> list[int]:
        asked.append(sorted(numbers))
        return [number * 2 for number in numbers]

    if mode == "sync":
        get = off.cached(60, many=all_of)(lambda number: number * 2)
        assert cache_module.get_many_sync(get, [1, 2]) == [2, 4]
    else:

        async def all_of_them(numbers: list[int]) -> list[int]:
            return all_of(numbers)

        @off.cached(60, many=all_of_them)
        async def one(number: int) -> int:
            return number * 2

        assert await cache_module.get_many(one, [1, 2]) == [2, 4]
    assert asked == [[1, 2]]
    assert not bench.stores["l2"].data


async def test_regions_keep_nothing(bench):
    """What is put into a region is not there, and what cannot be put is refused as ever."""
    region = bench.cache("l2", enabled=False).region("pages")
    await region.put("k", 1, 60, tags=["user"])
    assert await region.get("k", "nothing") == "nothing"
    assert not bench.stores["l2"].data
    with pytest.raises(ConfigError, match="SMW-C102"):
        await region.put("k", 1, "soon")


def test_warming_up_says_that_calls_went_past(bench):
    """`warm` counts each call as one past the cache."""
    get = bench.cache(enabled=False).cached(60)(lambda number: number)
    done = cache_module.warm_sync(get, [1, 2])
    assert (done.loaded, done.past) == (0, 2)


def test_it_is_said_once(bench, caplog):
    """Nobody is to search for what makes a service slow: one warning names the setting."""
    with caplog.at_level(logging.WARNING, "smw.cache"):
        bench.cache(enabled=False)
    assert [record.message for record in caplog.records if "CACHE_ENABLED" in record.message]
