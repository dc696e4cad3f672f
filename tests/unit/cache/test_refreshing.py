"""`refresh`: a new result in the place of one that still stands, for every process; readers keep that meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from smw import cache as cache_module
from smw.cache import info, key_for, refresh, refresh_sync
from smw.errors import ConfigError
from tests.unit.cache.test_levels import Source, loader

LEVELS = pytest.mark.parametrize("levels", [(), ("l2",), ("l2", "l3")])


@LEVELS
def test_the_new_result_is_there_for_all(bench, levels):
    """It is returned, and found here and by others, without another load."""
    source = Source()
    here, there = (loader(bench.cache(*levels), source) for _ in range(2))
    assert here(1)["value"] == "old"
    source.value = "new"
    assert here(1)["value"] == "old"
    assert refresh_sync(here, 1) == here(1) == {"user": 1, "value": "new"}
    assert source.reads == 2
    if levels:
        assert there(1)["value"] == "new"
        assert source.reads == 2
    assert info(here).entries == 1


async def test_coroutine_functions_and_blocking_ones_are_awaited(bench):
    """`await refresh` serves both kinds; the result is a copy of the caller's own."""
    cache, runs = bench.cache("l2"), []

    @cache.cached(60)
    async def page(number: int) -> list[int]:
        runs.append(number)
        return [number, len(runs)]

    @cache.cached(60)
    def part(number: int) -> int:
        runs.append(number)
        return len(runs)

    await page(1)
    found = await refresh(page, 1)
    found.append(7)
    assert await page(1) == [1, 2]
    assert (await refresh(part, number=2), part(2)) == (3, 3)
    with pytest.raises(ConfigError, match="SMW-C178"):
        refresh_sync(page, 1)


def test_readers_keep_the_present_result_meanwhile(bench):
    """Nobody waits for the load, and nothing is missing in between."""
    cache, goes_on, is_loading, values = bench.cache("l2"), threading.Event(), threading.Event(), iter(["old", "new"])

    @cache.cached(60, key=lambda number: number)
    def load(number: int) -> str:
        value = next(values)
        if value == "new":
            is_loading.set()
            assert goes_on.wait(20)
        return value

    load(1)
    thread = threading.Thread(target=refresh_sync, args=[load, 1])
    thread.start()
    assert is_loading.wait(20)
    assert load(1) == "old"
    goes_on.set()
    thread.join(20)
    assert load(1) == "new"


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@LEVELS
def test_what_is_dropped_meanwhile_is_not_kept(bench, levels, where):
    """A drop during the load, here or elsewhere, wins: the next call loads."""
    source, here, there = Source(), bench.cache(*levels), bench.cache(*levels)
    dropping = there if where == "elsewhere" and levels else here
    get = loader(here, source)
    get(1)
    read = source.read

    def drop() -> str:
        dropping.drop_sync(tags=["user:1"])
        return read()

    source.read = drop
    refresh_sync(get, 1)
    source.read, source.value = read, "newest"
    assert get(1)["value"] == "newest"


def test_a_load_that_began_before_is_not_kept(bench):
    """A reader whose load began earlier does not put its older value over the new one."""
    cache, source = bench.cache("l2"), Source()
    began, goes_on = threading.Event(), threading.Event()

    @cache.cached(60, key=lambda: 1)
    def load() -> str:
        value = source.read()
        if value == "old":
            began.set()
            assert goes_on.wait(20)
        return value

    thread = threading.Thread(target=load)
    thread.start()
    assert began.wait(20)
    source.value = "new"
    refresh_sync(load)
    goes_on.set()
    thread.join(20)
    assert load() == "new"
    assert source.reads == 2


@LEVELS
def test_an_error_leaves_the_present_result_unless_it_is_an_answer(bench, levels):
    """A source that is down costs nothing; one that says that there is no such thing ends what says otherwise."""
    cache, errors = bench.cache(*levels), []

    @cache.cached(60, cache_exceptions=LookupError, negative_ttl=5, key=lambda number: number)
    def load(number: int) -> int:
        if errors:
            raise errors[0]
        return number

    load(1)
    errors.append(ConnectionError())
    with pytest.raises(ConnectionError):
        refresh_sync(load, 1)
    assert load(1) == 1
    errors[0] = LookupError()
    for call in (lambda: refresh_sync(load, 1), lambda: load(1)):
        with pytest.raises(LookupError):
            call()


@LEVELS
def test_what_it_is_made_from_is_collected_anew(bench, levels):
    """With `depends="auto"` and with tags of the result, the new one is dropped by what it was made from."""
    cache, names = bench.cache(*levels), {1: "old"}

    @cache.cached(60, tags=["user:{number}"], key=lambda number: number)
    def user(number: int) -> str:
        return names[number]

    @cache.cached(60, depends="auto", tags=[lambda result: f"name:{result}"], key=lambda number: number)
    def page(number: int) -> str:
        return user(number)

    page(1)
    names[1] = "new"
    refresh_sync(user, 1)
    assert page(1) == "new"  # which was dropped with the user
    names[1] = "newer"
    cache.drop_sync(tags=["user:1"])
    assert refresh_sync(page, 1) == page(1) == "newer"
    names[1] = "newest"
    cache.drop_sync(tags=["name:newer"])
    assert page(1) == "newer"  # the user was not dropped
    cache.drop_sync(tags=["user:1"])
    assert page(1) == "newest"


def test_decorators_around_it_have_their_say(bench):
    """What stands above `cached` sees the call, and what stands below the load."""
    cache, seen = bench.cache(), []
    dropped = cache.cached(60, tags=["x"])(lambda: 1)

    @cache.invalidate(tags=["x"])
    @cache.cached(60)
    def load(number: int) -> int:
        seen.append(number)
        return number

    dropped()
    assert refresh_sync(load, 1) == 1
    assert seen == [1]
    assert info(dropped).entries == 0


def test_methods_and_functions_that_keep_nothing(bench):
    """A method is refreshed for its instance; without a time to live, or switched off, the function is called."""
    cache = bench.cache()

    class Shelf:
        def __init__(self) -> None:
            self.runs = 0

        @cache.cached(60)
        def first(self, number: int) -> int:
            self.runs += 1
            return self.runs

    one, two = Shelf(), Shelf()
    one.first(1), two.first(1)
    assert refresh_sync(one.first, 1) == one.first(1) == 2
    assert two.first(1) == 1
    assert refresh_sync(cache.cached(0)(lambda: 3)) == 3
    assert refresh_sync(bench.cache(enabled=False).cached(60)(lambda: 4)) == 4
    with pytest.raises(ConfigError, match="SMW-C112"):
        refresh_sync(len, [])


async def test_many_loads_one(bench):
    """With `many=` it is that function which is asked for the one result."""
    cache, asked = bench.cache("l2"), []

    async def all_of(numbers: list[int]) -> list[int]:
        asked.append(numbers)
        return [number * len(asked) for number in numbers]

    @cache.cached(60, many=all_of, key=lambda number: number)
    async def one(number: int) -> int:
        raise AssertionError

    assert (await one(2), await refresh(one, 2), await one(2)) == (2, 4, 4)
    assert asked == [[2], [2]]
    assert await cache.peek(key_for(one, 2)) == 4
    assert await asyncio.gather(cache_module.refresh(one, 2), cache_module.refresh(one, 3)) == [6, 9]


@pytest.mark.parametrize("first", ["call", "refresh"])
def test_a_load_that_refreshes_itself_is_told_so(bench, first):
    """It would never end; what goes on after a refresh has ended may refresh again."""
    cache, contexts = bench.cache(), []

    @cache.cached(60)
    def turning(number: int) -> int:
        contexts.append(contextvars.copy_context())
        return number if len(contexts) > 5 else refresh_sync(turning, number)

    with pytest.raises(RecursionError, match="SMW-K130"):
        turning(1) if first == "call" else refresh_sync(turning, 1)
    assert len(contexts) < 3
    contexts += contexts * 5
    assert contexts[-1].run(refresh_sync, turning, 1) == 1
    assert turning(1) == 1


def test_where_the_cache_is_off_others_drop_what_they_have(bench):
    """Such a process keeps nothing, and no process reads what it has just replaced."""
    source = Source()
    here, there = loader(bench.cache("l2", enabled=False), source), loader(bench.cache("l2"), source)
    assert there(1)["value"] == "old"
    source.value = "new"
    assert refresh_sync(here, 1)["value"] == "new"
    bench.clock.advance(1.01)
    assert there(1)["value"] == "new"
