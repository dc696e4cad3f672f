"""Results loaded together: `many=`, loads of one tick, `get_many`, sync and async, in memory and over a server."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import threading

import pytest

from smw import cache as cache_module
from smw import trace
from smw._kernel.flight import RecursiveLoadError
from smw.cache import Cache, get_many, get_many_sync
from smw.cache.loading import many as many_module
from smw.cache.naming.place import Look
from smw.cache.ports import StoreFailedError
from smw.errors import ConfigError, DecorationError


class Source:
    """Loads several at once and remembers what it was asked for."""

    def __init__(self, make=lambda key: f"user {key}") -> None:
        self.make = make
        self.asked: list[list[object]] = []

    def now(self, keys):
        self.asked.append(list(keys))
        return {key: self.make(key) for key in keys}

    async def later(self, keys):
        await asyncio.sleep(0)
        return self.now(keys)


@pytest.fixture(params=["memory", "server"])
def shop(request, bench):
    """A cache with memory alone, and one with a server behind it."""
    return bench.cache() if request.param == "memory" else bench.cache("l2")


async def test_calls_of_one_tick_become_one_load(shop):
    """Calls that miss at once are loaded together, each is kept alone, and equal ones are asked for once."""
    source = Source()

    @shop.cached(60, many=source.later)
    async def user(user_id: int) -> str: ...

    assert await asyncio.gather(*map(user, [1, 2, 3, 2])) == ["user 1", "user 2", "user 3", "user 2"]
    assert await user(3) == "user 3"
    assert list(map(sorted, source.asked)) == [[1, 2, 3]]


def straggle(store, monkeypatch):
    """Have a server answer each request some ticks of the event loop later, never the same number twice in a row."""
    turns = itertools.cycle((0, 3, 1, 5, 2, 8, 1, 4))
    for name in ("read", "open"):
        ask = getattr(store, name)

        async def late(*args, ask=ask, **how):
            for _ in range(next(turns)):
                await asyncio.sleep(0)
            return await ask(*args, **how)

        late.__name__ = name
        monkeypatch.setattr(store, name, late)


async def test_calls_that_begin_in_one_tick_become_one_load_however_the_server_answers(bench, monkeypatch):
    """Replies that come apart, keys that a server has and keys that others load do not make several loads of one."""
    monkeypatch.setattr(many_module, "_COME_S", 60.0)
    cache, source = bench.cache("l2"), Source()
    other = bench.cache("l2")
    straggle(bench.stores["l2"], monkeypatch)

    def decorated(cache):
        @cache.cached(60, many=source.later, key=lambda user_id: user_id)
        async def user(user_id: int) -> str: ...

        return user

    await decorated(other)(3)
    source.asked.clear()
    user = decorated(cache)
    async with asyncio.timeout(20):
        for start in range(0, 60, 6):
            keys = [*range(start, start + 6), start, start + 1]
            assert await asyncio.gather(*map(user, keys)) == [f"user {key}" for key in keys]
    assert [sorted(asked) for asked in source.asked] == [
        [key for key in range(start, start + 6) if key != 3] for start in range(0, 60, 6)
    ]


async def test_a_load_waits_a_while_only_for_others(bench, monkeypatch):
    """A call that the server keeps waiting does not keep those that began with it, nor do later ones."""
    cache, source, gate = bench.cache("l2"), Source(), asyncio.Event()
    store = bench.stores["l2"]
    read = store.read

    async def slow(key, *args, **how):
        if key == held:
            await gate.wait()
        return await read(key, *args, **how)

    slow.__name__ = "read"
    monkeypatch.setattr(store, "read", slow)

    @cache.cached(60, many=source.later, key=lambda user_id: user_id)
    async def user(user_id: int) -> str: ...

    held = cache_module.key_for(user, 1)
    first = asyncio.create_task(user(1))
    async with asyncio.timeout(20):
        assert await asyncio.gather(user(2), user(3)) == ["user 2", "user 3"]
        assert source.asked == [[2, 3]]
        gate.set()
        assert await first == "user 1"
    assert source.asked == [[2, 3], [1]]


async def test_a_cancelled_call_keeps_nobody(bench, monkeypatch):
    """Whoever is cancelled before its load is not waited for."""
    monkeypatch.setattr(many_module, "_COME_S", 60.0)
    cache, source = bench.cache("l2"), Source()
    straggle(bench.stores["l2"], monkeypatch)

    @cache.cached(60, many=source.later, key=lambda user_id: user_id)
    async def user(user_id: int) -> str: ...

    calls = [asyncio.create_task(user(number)) for number in range(4)]
    await asyncio.sleep(0)
    calls[0].cancel()
    async with asyncio.timeout(20):
        assert await asyncio.gather(*calls[1:]) == ["user 1", "user 2", "user 3"]
    assert list(map(sorted, source.asked)) == [[1, 2, 3]]


async def test_instances_of_one_identity_are_loaded_together(shop):
    """What shares results shares loads, through the instance that came first; others have loads of their own."""
    asked = []

    class Store:
        def __init__(self, name: str) -> None:
            self.name = name

        def __cache_key__(self) -> str:
            return self.name

        async def _load(self, numbers):
            asked.append((self.name, list(numbers)))
            return [f"{self.name} {number}" for number in numbers]

        @shop.cached(60, many=_load, key=lambda self, number: (self.name, number))
        async def get(self, number: int) -> str: ...

    found = await asyncio.gather(Store("a").get(1), Store("a").get(2), Store("b").get(1))
    assert found == ["a 1", "a 2", "b 1"]
    assert sorted(asked) == [("a", [1, 2]), ("b", [1])]


def test_blocking_call_loads_one(shop):
    """In blocking code a call is a load of one."""
    source = Source()

    @shop.cached(60, many=source.now)
    def user(user_id: int) -> str: ...

    assert user(1) == user(1) == "user 1"
    assert source.asked == [[1]]


async def test_get_many_answers_in_order_with_one_load(shop):
    """Memory answers what it has, the rest is one load, and results come in the order of the calls."""
    source = Source()

    @shop.cached(60, many=source.later)
    async def user(user_id: int) -> str: ...

    await user(2)
    assert await get_many(user, [3, 2, 1, 3]) == ["user 3", "user 2", "user 1", "user 3"]
    assert source.asked == [[2], [3, 1]]
    assert await get_many(user, [(1,), {"user_id": 3}]) == ["user 1", "user 3"]
    assert source.asked == [[2], [3, 1]]


def test_get_many_from_blocking_code_is_one_load_too(shop):
    """Blocking code is answered by one load as well."""
    source = Source()

    @shop.cached(60, many=source.now)
    def user(user_id: int) -> str: ...

    user(2)
    assert get_many_sync(user, [3, 2, 1, 3]) == ["user 3", "user 2", "user 1", "user 3"]
    assert source.asked == [[2], [3, 1]]
    assert get_many_sync(user, [1, 3]) == ["user 1", "user 3"]
    assert source.asked == [[2], [3, 1]]


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_servers_are_read_and_prepared_once(bench, mode):
    """What another process has stored comes with one read, and counters are started with one question."""
    source = Source()

    def made(shop):
        if mode == "sync":

            @shop.cached(60, tags=["user", "user:{user_id}"], many=source.now, key=str)
            def user(user_id: int) -> str: ...
        else:

            @shop.cached(60, tags=["user", "user:{user_id}"], many=source.later, key=str)
            async def user(user_id: int) -> str: ...

        return user

    async def ask(fn, ids):
        return get_many_sync(fn, ids) if mode == "sync" else await get_many(fn, ids)

    here, there = made(bench.cache("l2")), made(bench.cache("l2"))
    assert await ask(there, range(20)) == [f"user {key}" for key in range(20)]
    store = bench.stores["l2"]
    assert store.asked.count("read_many") == 1
    assert store.asked.count("open") == 1
    assert "read" not in store.asked
    del store.asked[:]
    assert await ask(here, range(25)) == [f"user {key}" for key in range(25)]
    assert source.asked == [list(range(20)), list(range(20, 25))]
    assert store.asked.count("read_many") == 1
    assert store.asked.count("write") == 5
    assert "read" not in store.asked


async def test_methods_load_for_their_own_instance(shop):
    """The load of a method gets its instance, and results of two instances stay apart."""

    class Users:
        def __init__(self, name: str) -> None:
            self.name = name
            self.asked = []

        async def _load(self, ids):
            self.asked.append(list(ids))
            return [f"{self.name} {number}" for number in ids]

        @shop.cached(60, many=_load)
        async def user(self, user_id: int) -> str: ...

    one, two = Users("one"), Users("two")
    assert await asyncio.gather(one.user(1), two.user(1), one.user(2)) == ["one 1", "two 1", "one 2"]
    assert (one.asked, two.asked) == ([[1, 2]], [[1]])
    assert await get_many(one.user, [3, 1]) == ["one 3", "one 1"]
    assert one.asked == [[1, 2], [3]]


def test_blocking_methods_load_for_their_own_instance(shop):
    """The same in blocking code, from the function of the class for two instances at once."""

    class Users:
        def __init__(self, name: str) -> None:
            self.name = name

        def _load(self, ids):
            return {number: f"{self.name} {number}" for number in ids}

        @shop.cached(60, many=_load)
        def user(self, user_id: int) -> str: ...

        @classmethod
        @shop.cached(60, many=lambda cls, ids: [cls.__name__ + number for number in ids], key=lambda _cls, name: name)
        def named(cls, name: str) -> str: ...

    one, two = Users("one"), Users("two")
    assert get_many_sync(Users.user, [(one, 1), (two, 1), (one, 2)]) == ["one 1", "two 1", "one 2"]
    assert get_many_sync(Users.named, ["a", "b"]) == ["Usersa", "Usersb"]


async def test_several_parameters_travel_as_tuples(shop):
    """With several parameters the load takes tuples of all arguments, defaults filled in."""
    asked = []

    async def load(calls):
        asked.extend(calls)
        return [f"{lang}{number}" for number, lang in calls]

    @shop.cached(60, many=load)
    async def title(number: int, lang: str = "en") -> str: ...

    assert await get_many(title, [1, (2, "fr"), {"number": 3}]) == ["en1", "fr2", "en3"]
    assert asked == [(1, "en"), (2, "fr"), (3, "en")]


async def test_what_a_mapping_leaves_out_is_none(bench, shop):
    """An identifier that the load does not know is None, kept as a None that the function returned."""
    asked = []

    async def load(ids):
        asked.append(ids)
        return {number: number for number in ids if number < 3}

    @shop.cached(60, negative_ttl=5, many=load)
    async def user(user_id: int) -> int | None: ...

    assert await get_many(user, [1, 9]) == [1, None]
    assert await get_many(user, [1, 9]) == [1, None]
    bench.clock.advance(6)
    assert await get_many(user, [1, 9]) == [1, None]
    assert asked == [[1, 9], [9]]


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        (lambda keys: {str(key): key for key in keys}, "(int) and returned what nobody asked for (str)"),
        (lambda keys: {keys[0]: 1, "2": 2}, "(int) and returned what nobody asked for (str)"),
        (lambda keys: {key + 10: key for key in keys}, "(int) and returned what nobody asked for (int)"),
        (lambda keys: {key: key for key in range(keys[0], 100)}, None),
        (lambda keys: {}, None),
        (lambda keys: {keys[0]: None}, None),
    ],
    ids=["texts", "some", "others", "more", "none", "fewer"],
)
async def test_keys_that_nobody_asked_for_are_told_once(cache, caplog, answer, kinds):
    """What stands under other keys than the arguments is None for everybody: the log names function and types."""

    def user(user_id: int) -> object: ...

    get = cache.cached(60, many=answer)(user)
    get_many_sync(get, [1, -2])
    get_many_sync(get, [3, -4])
    said = [record.getMessage() for record in caplog.records]
    assert [user.__qualname__ in each and str(kinds) in each for each in said] == [True] * (kinds is not None)


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_arguments_that_are_equal_and_not_the_same_are_loaded_apart(shop, mode):
    """A mapping cannot tell the results of 1, True and 1.0 from each other, so they are asked for in turn."""
    source = Source(repr)
    wanted = [1, True, "1", 1.0]
    if mode == "sync":

        @shop.cached(60, many=source.now)
        def user(user_id: object) -> str: ...

        assert get_many_sync(user, wanted) == ["1", "True", "'1'", "1.0"]
    else:

        @shop.cached(60, many=source.later)
        async def user(user_id: object) -> str: ...

        assert await get_many(user, wanted) == ["1", "True", "'1'", "1.0"]
    assert source.asked == [[1, "1"], [True], [1.0]]
    assert [type(asked[0]) for asked in source.asked] == [int, bool, float]


async def test_equal_calls_past_the_cache_are_one_load():
    """What is the same may stand in one load twice; only what a mapping cannot tell apart is asked for in turn."""
    source = Source()

    @Cache(namespace="past").cached(60, many=source.later, unless=lambda _call: True)
    async def user(user_id: object) -> str: ...

    assert await asyncio.gather(user(7), user(7), user(7), user(8)) == ["user 7", "user 7", "user 7", "user 8"]
    assert len(source.asked) == 1


async def test_a_load_that_fails_fails_those_who_asked_it(shop):
    """Arguments that are loaded apart share neither their load nor its failure."""

    async def load(keys):
        if True in keys and isinstance(keys[0], bool):
            raise ValueError("no truth")
        return {key: f"user {key}" for key in keys}

    @shop.cached(60, many=load)
    async def user(user_id: object) -> str: ...

    one, two, truth = await asyncio.gather(user(1), user(2), user(True), return_exceptions=True)
    assert (one, two) == ("user 1", "user 2")
    assert isinstance(truth, ValueError)


async def test_loads_that_outlive_their_get_many_keep_no_turn(shop):
    """Whoever waits for the same results gets them when `get_many` is cancelled, and later loads go on."""
    gate, begun = asyncio.Event(), asyncio.Event()

    async def load(keys):
        begun.set()
        await gate.wait()
        return {key: f"user {key}" for key in keys}

    @shop.cached(60, many=load)
    async def user(user_id: int) -> str: ...

    together = asyncio.create_task(get_many(user, range(100)))
    async with asyncio.timeout(10):
        await begun.wait()
    others = [asyncio.create_task(user(number)) for number in range(100)]
    await asyncio.sleep(0.05)
    together.cancel()
    with pytest.raises(asyncio.CancelledError):
        await together
    gate.set()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*others) == [f"user {number}" for number in range(100)]


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_an_exception_in_place_of_a_result_is_raised_for_that_call(shop, mode):
    """One failed identifier fails alone, and the others are kept."""
    asked = []

    def load(ids):
        asked.append(list(ids))
        return [KeyError(number) if number == 2 else number for number in ids]

    async def later(ids):
        return load(ids)

    if mode == "sync":

        @shop.cached(60, many=load)
        def user(user_id: int) -> int: ...

        with pytest.raises(KeyError):
            get_many_sync(user, [1, 2, 3])
        assert get_many_sync(user, [1, 3]) == [1, 3]
    else:

        @shop.cached(60, many=later)
        async def user(user_id: int) -> int: ...

        with pytest.raises(KeyError):
            await get_many(user, [1, 2, 3])
        assert await get_many(user, [1, 3]) == [1, 3]
    assert asked == [[1, 2, 3]]


@pytest.mark.parametrize("given", [{"a": 1}.items(), [1], None, "ab"])
async def test_a_load_that_returns_something_else_is_told_so(shop, given):
    """What is neither a mapping nor a list of the right length is an error with a code."""

    async def load(_ids):
        return given

    @shop.cached(60, many=load)
    async def user(user_id: int) -> int: ...

    with pytest.raises(ConfigError, match="SMW-C171"):
        await get_many(user, [1, 2])


async def test_error_of_the_load_reaches_everybody_and_is_not_kept(shop):
    """All that wait get the error, and the next call loads again."""
    runs = []

    async def load(ids):
        runs.append(ids)
        if len(runs) == 1:
            raise OSError("gone")
        return dict.fromkeys(ids, 1)

    @shop.cached(60, many=load)
    async def user(user_id: int) -> int: ...

    ended = await asyncio.gather(user(1), user(2), return_exceptions=True)
    assert [type(each) for each in ended] == [OSError, OSError]
    assert await user(1) == 1


async def test_what_is_dropped_meanwhile_is_not_kept(shop):
    """Of results loaded together only those are kept that nothing has dropped since the load began."""
    asked = []

    async def load(ids):
        asked.append(ids)
        if len(asked) == 1:
            await shop.drop(tags=["user:1"])
        return {number: number for number in ids}

    @shop.cached(60, tags=["user:{user_id}"], many=load)
    async def user(user_id: int) -> int: ...

    assert await get_many(user, [1, 2]) == [1, 2]
    assert await get_many(user, [1, 2]) == [1, 2]
    assert asked == [[1, 2], [1]]


def test_what_is_dropped_meanwhile_is_not_kept_in_blocking_code(shop):
    """The same for blocking code."""
    asked = []

    def load(ids):
        asked.append(ids)
        if len(asked) == 1:
            shop.drop_sync(tags=["user:1"])
        return {number: number for number in ids}

    @shop.cached(60, tags=["user:{user_id}"], many=load)
    def user(user_id: int) -> int: ...

    assert get_many_sync(user, [1, 2]) == [1, 2]
    assert get_many_sync(user, [1, 2]) == [1, 2]
    assert asked == [[1, 2], [1]]


async def test_a_load_under_way_is_waited_for(shop):
    """A key that is being loaded already is not asked for again."""
    asked, gate = [], asyncio.Event()
    begun = asyncio.Semaphore(0)

    async def load(ids):
        asked.append(ids)
        begun.release()
        await gate.wait()
        return {number: number for number in ids}

    @shop.cached(60, many=load)
    async def user(user_id: int) -> int: ...

    first = asyncio.create_task(user(1))
    await begun.acquire()
    both = asyncio.create_task(get_many(user, [1, 2]))
    await begun.acquire()
    gate.set()
    assert (await first, await both) == (1, [1, 2])
    assert asked == [[1], [2]]


def test_blocking_loads_of_two_threads_share_what_they_both_want(shop):
    """Two threads that want overlapping keys, each leading one that the other wants, end without a deadlock."""
    asked, barrier = [], threading.Barrier(2, timeout=5)

    def load(ids):
        asked.append(list(ids))
        return {number: number for number in ids}

    @shop.cached(60, many=load)
    def user(user_id: int) -> int: ...

    results = []

    def ask(ids):
        barrier.wait()
        results.append(get_many_sync(user, ids))

    orders = [list(range(200)), list(reversed(range(200)))]
    threads = [threading.Thread(target=ask, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert sorted(map(tuple, results)) == sorted(map(tuple, orders))


async def test_a_load_that_asks_for_what_it_loads_is_told_so(shop):
    """A load that calls the function for one of its own keys gets an error instead of waiting for itself."""

    async def load(ids):
        return {number: await user(2) for number in ids}

    @shop.cached(60, many=load)
    async def user(user_id: int) -> int: ...

    with pytest.raises(RecursiveLoadError):
        await asyncio.wait_for(get_many(user, [1, 2]), 5)


def test_a_blocking_load_that_asks_for_what_it_loads_is_told_so(shop):
    """The same in blocking code, for any of the keys, while others load on."""

    def load(ids):
        return {number: user(2) if 2 in ids else number for number in ids}

    @shop.cached(60, many=load)
    def user(user_id: int) -> int: ...

    with pytest.raises(RecursiveLoadError):
        get_many_sync(user, [1, 2, 3])
    assert get_many_sync(user, [1, 3]) == [1, 3]


async def test_cancelled_callers_leave_the_load_to_the_others(shop):
    """A caller that gives up takes nobody along; when all have, the load ends."""
    begun, gate, ended = asyncio.Event(), asyncio.Event(), []

    async def load(ids):
        begun.set()
        try:
            await gate.wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return {number: number for number in ids}

    @shop.cached(60, many=load)
    async def user(user_id: int) -> int: ...

    one, two = asyncio.create_task(user(1)), asyncio.create_task(user(2))
    await begun.wait()
    one.cancel()
    await asyncio.sleep(0.01)
    gate.set()
    assert await two == 2
    assert one.cancelled()
    begun.clear()
    gate.clear()
    three = asyncio.create_task(user(3))
    await begun.wait()
    three.cancel()
    await asyncio.sleep(0.02)
    assert ended == ["cancelled"]


async def test_a_load_takes_so_many_at_once(shop, monkeypatch):
    """More than the most are loaded by several calls."""
    monkeypatch.setattr("smw.cache.loading.many.MOST_AT_ONCE", 3)
    source = Source()

    @shop.cached(60, many=source.later)
    async def user(user_id: int) -> str: ...

    @shop.cached(60, many=source.now)
    def blocking(user_id: int) -> str: ...

    assert len(await get_many(user, range(7))) == 7
    assert [len(each) for each in source.asked] == [3, 3, 1]
    assert len(get_many_sync(blocking, range(7))) == 7
    assert [len(each) for each in source.asked[3:]] == [3, 3, 1]


async def test_without_many_the_function_runs_for_each_that_is_missing(shop):
    """No more than `concurrency` calls run at once, and those of one call are kept for the next."""
    running, most, runs = 0, 0, []

    @shop.cached(60)
    async def user(user_id: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        runs.append(user_id)
        return user_id

    assert await get_many(user, range(10), concurrency=3) == list(range(10))
    assert most == 3
    assert await get_many(user, range(12), concurrency=3) == list(range(12))
    assert sorted(runs) == list(range(12))


def test_without_many_blocking_code_calls_one_by_one(shop):
    """The function runs once for each that is missing."""
    runs = []

    @shop.cached(60)
    def user(user_id: int) -> int:
        runs.append(user_id)
        return user_id

    assert get_many_sync(user, [2, 1, 2]) == [2, 1, 2]
    assert get_many_sync(user, [1, 2, 3]) == [1, 2, 3]
    assert runs == [2, 1, 3]


async def test_a_function_that_stores_nothing_still_loads_by_many(shop):
    """With a time to live of nothing, and for calls that go past the cache, results come from `many=` all the same."""
    source = Source()

    @shop.cached(0, many=source.later)
    async def never(user_id: int) -> str: ...

    @shop.cached(60, condition=lambda user_id: user_id > 1, many=source.later)
    async def some(user_id: int) -> str: ...

    assert await never(1) == "user 1"
    assert await get_many(never, [1, 2]) == ["user 1", "user 2"]
    assert await get_many(some, [1, 2]) == ["user 1", "user 2"]
    assert await get_many(some, [1, 2]) == ["user 1", "user 2"]
    assert [number for asked in source.asked[-2:] for number in asked] == [1, 2, 1] or source.asked[-1] == [1]


async def test_decorators_above_see_each_call(cache):
    """Where a decorator above has something to do, each call goes through it."""
    seen = []

    @cache.invalidate(tags=["seen:{user_id}"], when="before")
    @cache.cached(60)
    async def user(user_id: int) -> int:
        seen.append(user_id)
        return user_id

    assert await get_many(user, [1, 2]) == [1, 2]
    assert sorted(seen) == [1, 2]


async def test_blocking_functions_are_asked_from_a_thread(shop):
    """`get_many` of a blocking function runs in a thread; `get_many_sync` of an async one in a loop of its own."""
    threads = []

    def load(ids):
        threads.append(threading.current_thread())
        return {number: number for number in ids}

    @shop.cached(60, many=load)
    def user(user_id: int) -> int: ...

    @shop.cached(60, many=Source(lambda key: key).later)
    async def later(user_id: int) -> int: ...

    assert await get_many(user, [1, 2]) == [1, 2]
    assert threads != [threading.current_thread()]
    with pytest.raises(ConfigError, match="SMW-C172"):
        get_many_sync(later, [1])
    assert await asyncio.to_thread(get_many_sync, later, [1]) == [1]


async def test_a_call_whose_arguments_do_not_fit_raises_what_python_raises(shop):
    """Python's own complaint reaches the caller."""

    @shop.cached(60, many=Source().later)
    async def user(user_id: int) -> str: ...

    @shop.cached(60, many=Source().now)
    def blocking(user_id: int) -> str: ...

    with pytest.raises(TypeError, match="takes 1 positional argument but 2"):
        await get_many(user, [(1, 2), 3])
    with pytest.raises(TypeError, match="takes 1 positional argument but 2"):
        get_many_sync(blocking, [(1, 2), 3])
    assert await get_many(user, [3]) == get_many_sync(blocking, [3]) == ["user 3"]


async def test_what_is_asked_of_get_many_is_checked():
    """A function that is not cached and a concurrency of nothing are refused."""

    @cache_module.cached(60)
    async def user(user_id: int) -> int:
        return user_id

    with pytest.raises(ConfigError, match="SMW-C112"):
        await get_many(asyncio.sleep, [0])
    with pytest.raises(ConfigError, match="SMW-C172"):
        await get_many(user, [0], concurrency=0)


def test_what_many_can_serve_is_checked_when_decorating(cache):
    """A load of another kind, of other arguments, or on a function without its own parameters is refused."""

    async def later(ids): ...

    def nothing(): ...

    def user(user_id: int) -> int: ...

    def anything(*ids) -> int: ...

    for many, fn in ((later, user), (nothing, user), (len, anything), (len, lambda: 1), (3, user)):
        with pytest.raises(DecorationError, match="SMW-C170"):
            cache.cached(60, many=many)(fn)


def test_traced_above_is_left_out_where_nobody_traces(cache):
    """A decorator above that has nothing to do does not stand in the way of one load."""
    source = Source()

    @trace()
    @cache.cached(60, many=source.now)
    def user(user_id: int) -> str: ...

    assert get_many_sync(user, [1, 2]) == ["user 1", "user 2"]


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_server_that_fails_is_asked_once_for_all(bench, mode):
    """What a server does not answer costs one question, not one for each result; they are loaded all the same."""
    cache, source = bench.cache("l2"), Source()

    @cache.cached(60, many=source.now, key=lambda number: number)
    def user(number: int) -> str: ...

    @cache.cached(60, many=source.later, key=lambda number: number)
    async def later(number: int) -> str: ...

    bench.stores["l2"].failing = StoreFailedError("timeout")
    found = get_many_sync(user, range(9)) if mode == "sync" else await get_many(later, range(9))
    assert found == [f"user {number}" for number in range(9)]
    assert source.asked == [list(range(9))]
    assert bench.stores["l2"].asked == ["read_many"]


async def test_an_event_loop_stores_many_results_a_few_at_a_time(bench):
    """Storing each of them takes its share of the loop; none waits for so long that it is given up, nor do others."""
    cache, other = bench.cache("l2"), bench.cache("l2")
    store, asked, under_way, most, turns = bench.stores["l2"], [], 0, 0, 0
    write = store.write

    async def at_work(*args, **how):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        bench.clock.advance(0.001)
        await asyncio.sleep(0)
        under_way -= 1
        return await write(*args, **how)

    async def load(numbers: list[int]) -> list[int]:
        asked.append(len(numbers))
        return numbers

    async def one(number: int) -> int: ...

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    store.write = at_work
    here, there = (
        each.cached(60, tags=["one:{number}"], key=lambda number: number, many=load)(one) for each in (cache, other)
    )
    task = asyncio.create_task(others())
    assert await cache_module.get_many(here, range(1200)) == list(range(1200))
    assert asked == [500, 500, 200]
    assert most <= 32
    assert turns > 100
    assert await cache_module.get_many(there, range(1200)) == list(range(1200))
    assert asked == [500, 500, 200]
    task.cancel()


@pytest.mark.parametrize("together", [True, False])
async def test_an_event_loop_sees_to_others_and_holds_little_of_what_it_looks_at(bench, together):
    """What a server has is handed out some at a time, and what is loaded one by one is begun when it is its turn."""
    cache, other = bench.cache("l2"), bench.cache("l2")
    turns, seen, tasks = 0, [], []

    async def load(numbers: list[int]) -> list[int]:
        return numbers

    async def one(number: int) -> int:
        tasks.append(len(asyncio.all_tasks()))
        await asyncio.sleep(0)
        return number

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            if turns % 8 == 0:
                seen.append(sum(type(each) is Look for each in gc.get_objects()))
            await asyncio.sleep(0)

    options = {"key": lambda number: number, "many": load if together else None}
    here, there = (each.cached(60, **options)(one) for each in (cache, other))
    assert await cache_module.get_many(here, range(600), concurrency=4) == list(range(600))
    assert max(tasks, default=0) <= 10  # each call, its load, and the test itself
    task = asyncio.create_task(others())
    assert await cache_module.get_many(there, range(600)) == list(range(600))
    assert len(tasks) == (0 if together else 600)
    assert turns > 50
    assert 0 < max(seen) < 300
    task.cancel()


async def test_a_get_many_that_is_cancelled_while_it_begins_leaves_nothing_behind(bench):
    """Its loads are cancelled, and those of others are gathered by the tick again."""
    cache = bench.cache()
    asked = []

    async def load(numbers: list[int]) -> list[int]:
        asked.append(len(numbers))
        return numbers

    @cache.cached(60, many=load)
    async def one(number: int) -> int: ...

    task = asyncio.create_task(cache_module.get_many(one, range(300)))
    for _ in range(14):  # the first calls have begun
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.gather(one(1), one(2)) == [1, 2]
    assert asked == [2]


async def test_a_get_many_that_is_cancelled_while_it_waits_cancels_what_it_has_begun(bench):
    """Who gives up leaves no load running that nobody else waits for, as a single call that is given up."""
    begun, ended, have_begun = [], [], asyncio.Event()

    @bench.cache().cached(60)
    async def one(number: int) -> int:
        begun.append(number)
        if len(begun) == 3:
            have_begun.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(number)
        return number

    task = asyncio.create_task(cache_module.get_many(one, range(3)))
    await have_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(100):
        await asyncio.sleep(0)
    assert sorted(ended) == [0, 1, 2]


@pytest.mark.parametrize("levels", [(), ("l2",)])
async def test_loads_of_one_tick_run_in_the_context_of_the_first(bench, levels):
    """Whatever servers are asked first, `many=` sees the variables of the first of those that it answers."""
    caller, seen = contextvars.ContextVar("caller", default=-1), []

    async def many(numbers):
        seen.append((caller.get(), list(numbers)))
        return {number: number for number in numbers}

    @bench.cache(*levels).cached(60, many=many)
    async def read(number: int) -> int: ...

    async def call(number):
        caller.set(number)
        return await read(number)

    assert await asyncio.gather(*map(call, range(4))) == [0, 1, 2, 3]
    assert [who for who, _ in seen] == [numbers[0] for _, numbers in seen]
