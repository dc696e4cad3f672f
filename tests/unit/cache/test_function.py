"""What callers of a cached function see: hits, copies, instances, flights, and calls that cannot be cached."""

# ruff: noqa: PLW0108 - what is decorated must be a plain function, and what counts its runs is none
from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest

from smw import cache as cache_module
from smw._kernel.flight import RecursiveLoadError
from smw._kernel.signals import CacheUncached
from smw.errors import ConfigError


class Counted:
    """A loader that counts its runs."""

    def __init__(self, make) -> None:
        self.make = make
        self.runs = 0

    def __call__(self, *args, **kwargs):
        self.runs += 1
        return self.make(*args, **kwargs)


def test_second_call_is_answered_from_memory(cache):
    """The function runs once for equal arguments, however they are passed."""
    source = Counted(lambda a, b=2: (a, b))

    @cache.cached(60)
    def load(a: int, b: int = 2) -> tuple[int, int]:
        return source(a, b)

    assert load(1) == load(1, 2) == load(a=1) == load(b=2, a=1) == (1, 2)
    assert source.runs == 1


def test_arguments_that_python_calls_equal_stay_apart(cache):
    """1, True, 1.0 and "1" are four calls."""
    load = cache.cached(60)(type_name)
    assert [load(value) for value in (1, True, 1.0, "1", 1)] == ["int", "bool", "float", "str", "int"]


def type_name(value: object) -> str:
    return type(value).__name__


def test_entries_end_with_their_time(bench, cache):
    """After the time to live the function runs again, and not a moment before."""
    source = Counted(lambda: 1)
    load = cache.cached(10)(lambda: source())
    load()
    bench.clock.advance(9.99)
    load()
    assert source.runs == 1
    bench.clock.advance(0.02)
    load()
    assert source.runs == 2


def test_zero_ttl_stores_nothing(cache):
    """A time to live of nothing runs the function each time."""
    source = Counted(lambda: 1)
    load = cache.cached(0)(lambda: source())
    load()
    load()
    assert source.runs == 2


def test_none_is_a_result_like_any_other(cache):
    """A result of None is kept."""
    source = Counted(lambda: None)
    load = cache.cached(60)(lambda: source())
    assert load() is None
    assert load() is None
    assert source.runs == 1


@dataclass
class Box:
    items: list


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"a": 1}, lambda: [1], lambda: {1}, lambda: {"a": {"b": [1]}}, lambda: ([1],), lambda: Box([1]),
        lambda: [Box([1])], lambda: bytearray(b"a"), lambda: {"a": {1, 2}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("copy", ["auto", "deep", "decode"])
@pytest.mark.parametrize("argument", [1, (1,)], ids=["quick", "slow"])
def test_changing_a_result_changes_no_other(cache, make, copy, argument):
    """What the first caller or a hit does to its result is invisible to every later caller."""
    load = cache.cached(60, copy=copy)(lambda argument: make())
    for _ in range(3):
        result = load(argument)
        assert result == make()
        spoil(result)


def spoil(value) -> None:
    if isinstance(value, Box):
        value.items.append("spoilt")
    elif isinstance(value, tuple):
        spoil(value[0])
    elif isinstance(value, dict):
        for item in value.values():
            if not isinstance(item, int):
                spoil(item)
        value["spoilt"] = 1
    elif isinstance(value, set):
        value.add("spoilt")
    elif isinstance(value, bytearray):
        value.append(1)
    else:
        if not isinstance(value[0], int):
            spoil(value[0])
        value.append("spoilt")


def test_share_hands_out_one_object(cache):
    """With `copy="share"` every caller gets the same object."""
    load = cache.cached(60, copy="share")(lambda: [1])
    assert load() is load()


def test_immutable_results_are_not_copied(cache):
    """With `copy="auto"` what cannot be changed is handed out as it is."""
    load = cache.cached(60)(lambda: ("a", (1, frozenset({2}))))
    assert load() is load()


class Plain:
    def __init__(self, name) -> None:
        self.name = name


def shared_load(cache, **options):
    class Service(Plain):
        @cache.cached(60, **options)
        def load(self, number: int) -> tuple[str, int]:
            return self.name, number

        @cache.cached(60, **options)
        def many(self, *numbers) -> tuple:
            return self.name, *numbers

        @cache.cached(60, **options)
        async def later(self, number: int) -> tuple[str, int]:
            return self.name, number

    return Service


async def test_short_lived_instances_never_see_each_other(cache):
    """Two hundred instances, many at the address of an earlier one, each get their own values."""
    service = shared_load(cache)
    for number in range(200):
        one = service(number)
        assert one.load(1) == one.load(1) == (number, 1)
        assert one.many(1, 2) == one.many(1, 2) == (number, 1, 2)
        assert await one.later(1) == await one.later(1) == (number, 1)
        del one


def test_entries_die_with_their_instance(cache):
    """Memory holds nothing of an instance that is gone."""
    service = shared_load(cache)
    held = [service(n) for n in range(5)]
    for one in held:
        one.load(1)
        one.many(1)
    assert cache_module.info(service.load).entries == 5
    held.clear()
    del one
    gc.collect()
    assert cache_module.info(service.load).entries == 0
    assert cache_module.info(service.many).entries == 0


def test_instance_may_keep_many_keys(cache):
    """An instance that lives long with ever new arguments keeps no list that grows without end."""
    service = shared_load(cache)
    one = service("a")
    for number in range(5000):
        one.load(number)
    stack = service.load.__smw_stack__
    function = stack.advices[0].function(stack.target)
    assert len(function._members.held[id(one)][1]) < 2500


class Identified(Plain):
    def __cache_key__(self):
        return self.name


def test_declared_identity_is_shared_and_followed(cache):
    """Instances of equal identity share results, and a changed identity gets other results."""
    runs = Counted(lambda self, number: (self.name, number))

    class Service(Identified):
        @cache.cached(60)
        def load(self, number: int) -> tuple[str, int]:
            return runs(self, number)

    one = Service("a")
    assert one.load(1) == Service("a").load(1) == ("a", 1)
    assert runs.runs == 1
    one.name = "b"
    assert one.load(1) == ("b", 1)


def test_own_key_decides(cache):
    """With `key=` calls share a result exactly where the key is equal."""
    source = Counted(str.lower)
    load = cache.cached(60, key=lambda text: text.lower())(lambda text: source(text))
    assert load("A") == load("a") == "a"
    assert source.runs == 1


def test_own_key_is_asked_each_time(cache):
    """A key made from the surroundings is looked at on every call, not remembered for the arguments."""
    tenant = ["a"]
    load = cache.cached(60, key=lambda number: (tenant[0], number))(lambda number: tenant[0])
    assert load(1) == "a"
    tenant[0] = "b"
    assert load(1) == "b"


class Slotted:
    __slots__ = ("name",)


@pytest.mark.parametrize(
    ("argument", "reason"),
    [(object(), "unkeyable-argument"), (lambda: 1, "local-function-argument"), (Slotted(), "unkeyable-argument")],
)
def test_unkeyable_call_runs_uncached_with_one_warning(cache, caplog, argument, reason):
    """A call without a key runs each time; one warning names function and remedy, a signal counts each call."""
    source = Counted(lambda value: 1)
    load = cache.cached(60)(lambda value: source(value))
    with caplog.at_level(logging.WARNING, "smw.cache"):
        assert [load(argument) for _ in range(3)] == [1, 1, 1]
    assert source.runs == 3
    assert len(caplog.records) == 1
    assert "__cache_key__" in caplog.text
    assert "0x" not in caplog.text
    assert [signal.reason for signal in cache.recorded.of(CacheUncached)] == [reason] * 3
    assert cache_module.info(load).uncached == 3


@pytest.mark.parametrize(
    "make",
    [lambda: iter([1]), lambda: (n for n in (1,)), threading.Lock, lambda: [threading.Lock()], lambda: map(str, [])],
)
def test_result_without_copy_is_returned_uncached(cache, caplog, make):
    """A generator, an iterator or a lock reaches its caller as it is, and is never handed to another."""
    load = cache.cached(60)(lambda: make())
    with caplog.at_level(logging.WARNING, "smw.cache"):
        results = [load() for _ in range(3)]
    assert len({id(result) for result in results}) == 3
    assert len(caplog.records) == 1


def test_cyclic_result_is_kept_and_copied(cache):
    """A result that contains itself is copied whole."""

    def make() -> list:
        loop: list = [1]
        loop.append(loop)
        return loop

    load = cache.cached(60)(make)
    first = load()
    first[0] = "spoilt"
    again = load()
    assert again[0] == 1
    assert again[1] is again


def test_instance_that_cannot_be_watched_runs_uncached(cache, caplog):
    """A method of an instance without weak references runs each time and the remedy names both ways out."""

    class Closed:
        __slots__ = ()

        @cache.cached(60)
        def load(self, number: int) -> object:
            return object

    with caplog.at_level(logging.WARNING, "smw.cache"):
        Closed().load(1)
    assert "__weakref__" in caplog.text
    with pytest.raises(ConfigError, match="__weakref__"):
        cache_module.key_for(Closed.load, Closed(), 1)


def test_wrong_arguments_raise_as_python_does(cache):
    """Arguments that do not fit raise the function's own TypeError."""
    load = cache.cached(60)(type_name)
    with pytest.raises(TypeError, match="type_name"):
        load()
    with pytest.raises(TypeError, match="type_name"):
        load(1, 2)


def test_exceptions_are_not_kept(cache):
    """A failed call is repeated."""
    source = Counted(lambda: 1 / 0)
    load = cache.cached(60)(lambda: source())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            load()
    assert source.runs == 2


async def test_two_hundred_callers_run_it_once(cache):
    """Concurrent coroutines share one run, and each gets a result of its own."""
    source = Counted(lambda: {"a": [1]})

    @cache.cached(60)
    async def load(key: str) -> dict:
        await asyncio.sleep(0.02)
        return source()

    results = await asyncio.gather(*(load("k") for _ in range(200)))
    assert source.runs == 1
    results[0]["a"].append("spoilt")
    assert all(result == {"a": [1]} for result in results[1:])
    assert len({id(result["a"]) for result in results}) == 200


def test_threads_run_it_once(cache):
    """Concurrent threads share one run."""
    gate = threading.Event()
    source = Counted(lambda: gate.wait(5) and 1)
    load = cache.cached(60)(lambda: source())
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(load())) for _ in range(20)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert results == [1] * 20
    assert source.runs == 1


async def test_cancelled_leader_takes_nobody_along(cache):
    """When the first caller is cancelled the others still get the one result."""
    source = Counted(lambda: 1)

    @cache.cached(60)
    async def load() -> int:
        await asyncio.sleep(0.02)
        return source()

    leader = asyncio.ensure_future(load())
    await asyncio.sleep(0)
    followers = [asyncio.ensure_future(load()) for _ in range(9)]
    await asyncio.sleep(0.005)
    leader.cancel()
    assert await asyncio.gather(*followers) == [1] * 9
    assert source.runs == 1
    assert leader.cancelled() or await asyncio.gather(leader, return_exceptions=True)


async def test_failing_leader_tells_everybody(cache):
    """The error of the one run reaches every waiter."""

    @cache.cached(60)
    async def load() -> int:
        await asyncio.sleep(0.01)
        raise ValueError("source")

    results = await asyncio.gather(*(load() for _ in range(10)), return_exceptions=True)
    assert [str(result) for result in results] == ["source"] * 10


async def test_one_shot_result_goes_to_one_caller(cache):
    """Followers of a run whose result cannot be copied run for themselves."""

    @cache.cached(60)
    async def load():
        await asyncio.sleep(0.01)
        return iter([1])

    results = await asyncio.gather(*(load() for _ in range(5)))
    assert [list(result) for result in results] == [[1]] * 5


def test_recursion_with_the_same_arguments_is_told(cache):
    """A loader that waits for itself gets an error at once instead of hanging."""

    @cache.cached(60)
    def load(number: int) -> int:
        return load(number)

    with pytest.raises(RecursiveLoadError):
        load(1)


def test_recursion_through_a_pool_is_told(cache):
    """So does one that waits for a pool's thread which calls it, and knows nothing of the load it serves."""

    @cache.cached(60)
    def load(number: int) -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(load, number).result()

    with pytest.raises(RecursiveLoadError, match=r"test_function:.*load called itself"):
        load(1)


def test_waiting_for_long_is_said_with_the_setting_that_ends_it(cache, caplog, monkeypatch):
    """A caller that loads beside a slow one has the function and `hard_timeout=` logged."""
    monkeypatch.setattr("smw._kernel.aloft.RELIEF_S", 0.1)
    begun, gate = threading.Event(), threading.Event()

    @cache.cached(60)
    def slow(number: int) -> int:
        if begun.is_set():
            return number
        begun.set()
        gate.wait(10)
        return number

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(slow, 7)
        assert begun.wait(10)
        assert slow(7) == 7
        gate.set()
        assert leader.result(10) == 7
    assert "slow has kept callers" in caplog.text
    assert "hard_timeout=" in caplog.text


def test_recursion_with_other_arguments_works(cache):
    """A recursive function uses its own cache."""

    @cache.cached(60)
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(60) == 1548008755920


@pytest.mark.parametrize("levels", [(), ("l2", "l3")])
def test_recursion_goes_deep(bench, levels):
    """Seventy levels that are all misses fit into Python's limit of 1,000 frames, and a higher limit takes more."""

    @bench.cache(*levels).cached(60)
    def down(n: int) -> int:
        return n if n == 0 else down(n - 1)

    before, results = sys.getrecursionlimit(), []
    try:
        for depth, limit in ((70, 1000), (200, 3000)):
            sys.setrecursionlimit(limit)
            thread = threading.Thread(target=lambda depth=depth: results.append(down(depth)))  # a stack of its own
            thread.start()
            thread.join()
    finally:
        sys.setrecursionlimit(before)
    assert results == [0, 0]


def test_partial_static_class_methods_and_objects(cache):
    """Every callable kind is cached, whichever side of classmethod and staticmethod the decorator stands."""
    runs = Counted(lambda *args: args)

    class Service:
        @cache.cached(60)
        @classmethod
        def above(cls, x: int):
            return runs(cls.__name__, x)

        @classmethod
        @cache.cached(60, key=lambda cls, x: x)
        def below(cls, x: int):
            return runs(cls.__name__, x)

        @staticmethod
        @cache.cached(60)
        def static(x: int):
            return runs(x)

    for call in (Service.static, Service.below, cache.cached(60)(partial(max, 1))):
        assert call(5) == call(5)
    assert runs.runs == 2
    assert Service.above(5) == ("Service", 5)


def test_keys_of_methods(cache):
    """Taken from an object or a class a method knows its first argument; taken from the class it wants the object."""

    class Shelf:
        def __init__(self, name: str) -> None:
            self.name = name

        def __cache_key__(self) -> str:
            return self.name

        @cache.cached(60)
        def first(self, number: int) -> int:
            return number

        @classmethod
        @cache.cached(60)
        def every(cls, number: int) -> int:
            return number

        @staticmethod
        @cache.cached(60)
        def any(number: int) -> int:
            return number

    key_for, jazz = cache_module.key_for, Shelf("jazz")
    assert key_for(jazz.first, 1) == key_for(Shelf.first, jazz, 1) == key_for(Shelf("jazz").first, number=1)
    assert key_for(jazz.first, 1) != key_for(Shelf("rock").first, 1)
    assert key_for(jazz.any, 1) == key_for(Shelf.any, 1)
    with pytest.raises(ConfigError, match="SMW-C113"):
        key_for(Shelf.every, 1)  # of a class that its name does not lead to
    Shelf.__qualname__ = "Placed"
    globals()["Placed"] = Shelf
    try:
        assert key_for(Shelf.every, 1) == key_for(jazz.every, 1)
        cache.drop_sync(keys=[key_for(Shelf.every, 1)])
    finally:
        del globals()["Placed"]


def test_version_separates_results(cache):
    """Another version is another key."""
    one = cache.cached(60, version="1")(type_name)
    two = cache.cached(60, version="2")(type_name)
    assert cache_module.key_for(one, 1) != cache_module.key_for(two, 1)


def test_key_is_short_safe_and_tells_nothing(bench):
    """A key fits memcached, carries the namespace and no argument."""
    made = bench.cache(namespace="my shop: ümlaut \r\n")
    load = made.cached(60)(type_name)
    key = cache_module.key_for(load, "ann@example.org" * 50)
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key
    assert len(key) < 120
    assert "ann" not in key


def test_dropping_by_key(cache):
    """A result can be dropped by the key of its call, and only it."""
    source = Counted(lambda x: x)
    load = cache.cached(60)(lambda x: source(x))
    load(1)
    load(2)
    cache.drop_sync(keys=[cache_module.key_for(load, 1)])
    load(1)
    load(2)
    assert source.runs == 3


def test_info_counts(bench, cache):
    """`info` tells hits and misses per level."""
    load = cache.cached(60, tags=["t"])(type_name)
    for _ in range(5):
        load(1)
    load((1,))
    load((1,))
    info = cache_module.info(load)
    assert info.hits == {"l1": 5}
    assert info.misses == {"l1": 2}
    assert (info.entries, info.ttl_s, info.levels, info.uncached) == (2, 60.0, ("l1",), 0)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("levels", [(), ("l2",), ("l2", "l3")], ids=str)
async def test_a_miss_whose_load_raises_is_a_miss(bench, mode, levels):
    """It counts at each level that was asked, for each caller who has asked, and is no hit when it is asked again."""
    cache = bench.cache(*levels)

    def fail(number: int) -> int:
        raise LookupError(number)

    async def fail_async(number: int) -> int:
        await asyncio.sleep(0)
        return fail(number)

    load = cache.cached(60, key=lambda number: number)(fail if mode == "sync" else fail_async)
    for _ in range(2):
        with pytest.raises(LookupError):
            await load(1) if mode == "async" else load(1)
    every = ("l1", *levels)
    info = cache_module.info(load)
    assert (info.misses, info.hits) == (dict.fromkeys(every, 2), dict.fromkeys(every, 0))
    if mode == "async":
        assert len(await asyncio.gather(*(load(2) for _ in range(3)), return_exceptions=True)) == 3
        assert cache_module.info(load).misses["l1"] == 5


def test_another_event_loop_than_that_of_asyncio_is_told_of(cache):
    """A coroutine that no loop of asyncio runs is refused in words, and nothing is loaded."""
    runs = []

    @cache.cached(60)
    async def load(number: int) -> int:
        runs.append(number)
        return number

    driven = load(1)
    with pytest.raises(ConfigError, match="SMW-C176"):
        driven.send(None)
    assert runs == []
    assert asyncio.run(load(1)) == 1


def test_another_event_loop_has_what_is_due_and_leaves_nothing_behind(bench, cache):
    """What is due is handed out where no loop of asyncio could load it anew, and keeps nobody from loading."""

    @cache.cached(60, refresh_ahead=0.5)
    async def load(number: int) -> int:
        return number

    assert asyncio.run(load(1)) == 1
    bench.clock.advance(50)
    (function,) = cache._functions.living()
    with pytest.raises(StopIteration) as hit:
        load(1).send(None)
    assert hit.value.value == 1
    assert len(function._flights) == 0


def test_facts_tell_what_was_counted(cache):
    """The figures that monitoring reads carry function, level and outcome."""
    load = cache.cached(60)(type_name)
    load(1)
    load(1)
    facts = {(fact.name, fact.labels): fact.value for fact in cache.host.facts}
    name = f"{__name__}:type_name"
    for level, outcome in (("l1", "hit"), ("l1", "miss")):
        assert facts["smw_cache_requests_total", (("fn", name), ("level", level), ("outcome", outcome))] == 1
    assert facts["smw_cache_entries", (("level", "l1"),)] == 1
    assert facts["smw_cache_bytes", (("level", "l1"),)] > 0
