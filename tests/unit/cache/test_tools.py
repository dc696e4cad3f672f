"""What people ask of a cache besides results: peek, why, clear, warm."""

from __future__ import annotations

import ast
import asyncio
import inspect
import threading
from pathlib import Path

import pytest

from smw import cache
from smw.cache import Story
from smw.cache.naming.key import Key
from smw.cache.naming.names import fence_of
from smw.cache.ports import StoreFailedError
from smw.cache.sight import story as story_module
from smw.cache.sight.browsing import Plain, stored
from smw.errors import ConfigError
from smw.testing import FakeClock, faults, isolated

SERVERS = {"l2_url": "memory://", "l3_servers": ["memory://"], "namespace": "shop", "l1_trust_ms": 1000}
calls: list[object] = []


@cache.cached(ttl=60, tags=["price", "sku:{sku}"])
def price(sku: str) -> dict[str, int]:
    """The function of most tests."""
    calls.append(sku)
    return {"price": len(sku)}


@cache.cached(ttl=60)
async def stock(sku: str, *, place: str = "x") -> int:
    """The same, awaited."""
    calls.append((sku, place))
    await asyncio.sleep(0)
    if sku == "bad":
        raise LookupError(sku)
    return len(sku)


@cache.cached(ttl=60, levels=("l1",))
def alone(sku: str) -> int:
    """A function that stays in memory."""
    return len(sku)


@cache.cached(ttl=60)
def bare(number: int) -> int:
    """A function without tags."""
    return number


def uncached(sku: str) -> int:
    return len(sku)


@pytest.fixture
def clock():
    calls.clear()
    return FakeClock()


@pytest.fixture
def runtime(clock):
    with isolated(clock=clock, cache=SERVERS) as opened:
        yield opened


def forget(runtime):
    """Empty memory, so that the servers are asked."""
    runtime.cache.engine.memory.clear()


def story(key) -> Story:
    """Return the story, having checked that `peek` agrees with what it says."""
    told = cache.why_sync(key)
    assert (cache.peek_sync(key) is not None) == (told.served_by is not None)
    return told


def level(told, name):
    """Return what is told of one level."""
    return next(row for row in told.levels if row.level == name)


def test_a_key_is_its_text_and_knows_its_function(runtime):
    """What key_for returns is the full key, and of use wherever a text is."""
    key = cache.key_for(price, "a")
    assert isinstance(key, Key)
    assert str(key) == key == cache.key_for(price, sku="a")
    assert (key.fn, key.labels) == (f"{__name__}:price", ("price", "sku:a"))
    assert type(str(key)) is str


async def test_peek_returns_what_a_level_holds_and_calls_nothing(runtime):
    """Peek finds a value in memory or on a server, counts nothing, fills nothing, and never runs the function."""
    key = cache.key_for(price, "abc")
    assert await cache.peek(key, "none") == "none"
    price("abc")
    before = cache.info(price)
    assert await cache.peek(key) == {"price": 3}
    forget(runtime)
    assert cache.peek_sync(key) == {"price": 3}
    assert runtime.cache.engine.memory.entries == 0
    assert cache.info(price).hits == before.hits
    assert calls == ["abc"]


def test_peek_hands_out_copies(runtime):
    """Who changes what peek returned changes nothing that is kept."""
    key = cache.key_for(price, "abc")
    price("abc")
    cache.peek_sync(key)["price"] = 0
    assert price("abc") == {"price": 3}


def test_peek_raises_an_exception_that_is_kept(runtime):
    """Where an exception is the answer that memory keeps, peek gives that answer and does not call the function."""

    @cache.cached(ttl=60, negative_ttl=10, cache_exceptions=LookupError, key=lambda sku: sku)
    def absent(sku: str) -> int:
        calls.append(sku)
        raise LookupError(sku)

    with pytest.raises(LookupError):
        absent("a")
    with pytest.raises(LookupError):
        cache.peek_sync(cache.key_for(absent, "a"))
    assert calls == ["a"]


def test_nothing_was_stored(runtime):
    """Of a key that nobody stored, each level holds nothing and the function would be called."""
    told = story(cache.key_for(price, "a"))
    assert [(row.level, row.held, row.says) for row in told.levels] == [
        ("l1", False, "holds nothing"),
        ("l2", False, "holds nothing"),
        ("l3", False, "holds nothing"),
    ]
    assert told.served_by is None
    assert "the function would be called" in str(told)


def test_every_level_says_what_it_holds(runtime, clock):
    """Age, remaining life and size are told of each level, and the first one that could answers."""
    price("a")
    clock.advance(10)
    told = story(cache.key_for(price, "a"))
    assert told.served_by == "l1"
    assert level(told, "l1").says == "answers once a server has confirmed it"
    for name in ("l2", "l3"):
        row = level(told, name)
        assert (row.says, row.age_s, row.remaining_s) == ("answers", pytest.approx(10), pytest.approx(50))
        assert row.size_bytes > 20
    assert str(told).splitlines()[0].endswith("test_tools:price, tags price, sku:a)")
    assert "stored 10.0 s ago; 50.0 s left" in str(told)


def test_a_tag_that_was_dropped_is_named(runtime, clock):
    """After a drop by tag, a server that still holds the value says which tag it was."""
    price("a")
    key = cache.key_for(price, "a")
    runtime.cache.engine.remote.tiers[0].servers[0].store.counters[key.tags[2]] += 7  # as another process does
    clock.advance(2)
    told = story(key)
    assert told.served_by is None
    assert level(told, "l1").says == "was dropped elsewhere since it was stored"
    assert level(told, "l2").says == "holds an old value; dropped since it was loaded: tag sku:a"
    assert told.dropped_s is None


def test_what_this_process_dropped_and_owes_is_told(runtime, clock):
    """While a server has not acknowledged a drop the story says so, and no server is taken at its word."""
    price("a")
    with faults.down("l2"):
        cache.drop_sync(tags=["price"])
        clock.advance(3)
        told = story(cache.key_for(price, "a"))
        assert told.dropped_s == pytest.approx(3)
        assert told.owed == ("memory",)
        assert level(told, "l2").says == "did not answer"
        assert level(told, "l3").says == "is not taken at its word while a drop is owed"
        assert "a drop of it is still owed to memory" in str(told)
    assert story(cache.key_for(price, "a")).owed == ()


def test_expired_is_told(runtime, clock):
    """A value whose time has ended is told as expired by memory; the servers have forgotten it."""
    price("a")
    clock.advance(61)
    told = story(cache.key_for(price, "a"))
    assert level(told, "l1").says == "has expired"
    assert told.served_by is None


def test_what_stands_in_for_a_failed_load_is_told(runtime, clock):
    """A value that has expired and is kept for `stale_if_error` is told as such by every level, and answers no call."""

    @cache.cached(ttl=60, stale_if_error=600, key=lambda sku: sku)
    def rate(sku: str) -> int:
        clock.advance(1.5)
        return len(sku)

    rate("a")
    fresh = story(cache.key_for(rate, "a"))
    assert level(fresh, "l2").load_s == pytest.approx(1.5)
    assert "loaded in 1.500 s" in str(fresh)
    clock.advance(61)
    told = story(cache.key_for(rate, "a"))
    assert [row.says for row in told.levels] == ["has expired, and may stand in for a load that fails"] * 3
    assert told.served_by is None


def test_bytes_that_do_not_open_are_told(runtime):
    """Garbled bytes are told with what was wrong with them."""
    price("a")
    forget(runtime)
    with faults.garbage("l2"):
        assert level(story(cache.key_for(price, "a")), "l2").says == "holds bytes that do not open (header)"


def test_l3_without_l2_answers_while_it_is_young(runtime, clock):
    """While L2 is away L3's young values answer, and its older ones do not; the story says why."""
    price("a")
    forget(runtime)
    with faults.down("l2"):
        assert story(cache.key_for(price, "a")).served_by == "l3"
        clock.advance(31)
        told = story(cache.key_for(price, "a"))
        assert "while the server that knows of drops is away" in level(told, "l3").says
        assert told.served_by is None


def test_levels_that_a_function_does_not_use_say_so(runtime):
    """A function that is kept in memory alone is told as such."""
    alone("a")
    told = story(cache.key_for(alone, "a"))
    assert told.served_by == "l1"
    assert level(told, "l2").says == "is not used by this function"


def test_a_breaker_that_is_open_is_told(runtime):
    """A server that is known to be down is not asked."""
    with faults.down("l3"):
        for number in range(6):
            price(str(number))
        assert level(story(cache.key_for(price, "x")), "l3").says == "is down and not asked"


RENDERED = ("Yield why a value is not handed out, if it is not.",)  # a docstring
SAYING = ("_memory", "_server", "_objections", "_changes")


def test_the_text_of_a_key_tells_what_memory_knows(runtime):
    """Of a bare text the function is unknown; its tags are judged where memory has it, and left open where not."""
    price("a")
    key = str(cache.key_for(price, "a"))
    told = cache.why_sync(key)
    assert (told.fn, told.tags, told.served_by) == (None, None, "l1")
    forget(runtime)
    told = cache.why_sync(key)
    assert (told.served_by, level(told, "l2").held, level(told, "l2").stands) == (None, True, None)
    assert str(told).splitlines()[-1] == "  answered if its tags still stand: ask by module:function and arguments"


def test_a_key_without_its_tags_is_left_open(runtime):
    """As a shell has it that names an object by its identity: whether it stands is asked where the object is."""
    price("a")
    whole = cache.key_for(price, "a")
    key = Key.of(str(whole), whole.tags[:1], fn=whole.fn, names=whole.names)
    forget(runtime)
    told = cache.why_sync(key)
    assert (told.served_by, told.tags, level(told, "l2").stands) == (None, None, None)
    assert "tags are made from attributes" in level(told, "l2").says
    assert "ask in the application" in str(told).splitlines()[-1]
    runtime.cache.drop_sync(keys=[key])
    asked = len(calls)
    price("a")
    assert len(calls) == asked + 1


def test_a_bare_key_without_tags_is_judged(runtime):
    """Where there is no tag beside the one of everything, its text says all: it stands, or what was dropped is told."""
    bare(1)
    key = str(cache.key_for(bare, 1))
    forget(runtime)
    assert cache.why_sync(key).served_by == "l2"
    runtime.cache.engine.remote.tiers[0].servers[0].store.counters[fence_of(key)] = 7  # as another process does
    assert level(cache.why_sync(key), "l3").says == "holds what was dropped by its key since it was loaded"
    runtime.cache.clear_sync()
    assert cache.why_sync(key).served_by is None


def test_the_page_lists_all_that_a_level_can_say():
    """Each text of the story is in the table of the page, so that nobody has to read the code to know what it means."""
    page = Path(__file__).parents[3].joinpath("docs", "cache", "sight.md").read_text()
    tree = ast.parse(inspect.getsource(story_module))
    inside = [item for item in ast.walk(tree) if isinstance(item, ast.FunctionDef) and item.name in SAYING]
    said = [
        node.value
        for place in [*inside, *[item for item in tree.body if isinstance(item, ast.Assign)]]
        for node in ast.walk(place)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 1
    ]
    assert len(said) > 12
    missing = [text for text in said if text.rstrip("( ") not in page and text not in RENDERED]
    assert missing == []


def test_what_others_have_put_beside_keys_is_not_listed(runtime):
    """Whoever can write to a server chooses the names of what lies there, and what a terminal makes of them."""
    price("abc")
    data = runtime.cache.engine.remote.servers[0].store.data
    kept = next(iter(data.values()))
    data |= {"smw:shop:" + "\x1b[2J".ljust(32, "x"): kept, "smw:shop:" + "F" * 32: kept}
    assert {row.key for row in stored(runtime.cache, 10)} == {cache.key_for(price, "abc")}


def test_what_a_class_is_called_in_stored_bytes_is_shown_harmlessly():
    """An object of a class that is not known is shown by names that the bytes alone tell."""
    assert repr(Plain("\x1b[2Ja", {"\x07": "\x1b", "b": 1})) == r"'\x1b[2Ja'('\x07'='\x1b', b=1)"
    assert repr(Plain("shop:Item", {"n": 1})) == "shop:Item(n=1)"


async def test_why_is_plain_values(runtime):
    """A story can be printed as JSON."""
    told = await cache.why(cache.key_for(price, "a"))
    assert told.as_dict()["levels"][0]["level"] == "l1"


@pytest.mark.parametrize("ask", [cache.peek_sync, cache.why_sync])
def test_what_is_no_key_is_refused(runtime, ask):
    """A text with spaces is no key."""
    with pytest.raises(ConfigError, match="SMW-C110"):
        ask("no key")


@pytest.mark.parametrize("ask", [cache.why_sync, cache.peek_sync])
def test_what_is_no_key_is_not_said_to_be_several(runtime, ask):
    """Nobody who asks about one key is told of an argument of `drop`."""
    with pytest.raises(ConfigError, match="this is no full key") as raised:
        ask("nonsense")
    assert "keys=" not in str(raised.value)
    assert "key_for" in raised.value.fix


async def test_clear_forgets_everything_of_the_namespace(runtime):
    """After clear no function's result is handed out, on any level."""
    price("a")
    await stock("a")
    await cache.clear()
    assert await cache.peek(cache.key_for(price, "a")) is None
    price("a")
    cache.clear_sync()
    assert cache.peek_sync(cache.key_for(price, "a")) is None
    assert calls == ["a", ("a", "x"), "a"]


@pytest.mark.parametrize("calls", [5, None, "abc", b"abc", {"sku": "a"}])
@pytest.mark.parametrize("ask", [cache.warm_sync, cache.get_many_sync])
def test_several_calls_are_no_number_and_no_text(runtime, ask, calls):
    """What would be read letter by letter, or not at all, is refused in words, and nothing is called."""
    with pytest.raises(ConfigError, match="takes several calls, each with its arguments"):
        ask(price, calls)
    assert not globals()["calls"]


async def test_awaited_too_several_calls_are_no_number(runtime):
    """The same for coroutines."""
    for ask in (cache.warm, cache.get_many):
        with pytest.raises(ConfigError, match="takes several calls"):
            await ask(stock, 5)


async def test_warming_up_loads_what_is_missing(runtime):
    """Each call runs once with its arguments; what is held is a hit, what raises is counted, the others go on."""
    await stock("held")
    calls.clear()
    done = await cache.warm(stock, ["held", ("a",), {"sku": "b", "place": "y"}, ["c"], "bad"], concurrency=2)
    assert (done.loaded, done.hit, done.failed) == (3, 1, 1)
    assert isinstance(done.error, LookupError)
    assert sorted(calls) == [("a", "x"), ("b", "y"), ("bad", "x"), ("c", "x")]


async def test_warming_up_takes_calls_as_they_are_needed(runtime):
    """At most `concurrency` calls run at once, and an endless source is not read ahead."""
    running, most, taken = 0, 0, 0

    @cache.cached(ttl=60, key=lambda number: number)
    async def slow(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return number

    async def numbers():
        nonlocal taken
        for number in range(20):
            taken = number + 1
            assert taken - calls_done() <= 4
            yield number

    def calls_done():
        return cache.info(slow).misses["l1"]

    done = await cache.warm(slow, numbers(), concurrency=3)
    assert (done.loaded, most, taken) == (20, 3, 20)


async def test_a_source_that_fails_ends_the_warm_up(runtime):
    """What the source of calls raises is raised as it is."""

    def source():
        yield "a"
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        await cache.warm(stock, source())


async def test_blocking_functions_are_warmed_in_threads(runtime):
    """The event loop goes on while a blocking function is warmed."""
    threads = set()

    @cache.cached(ttl=60, key=lambda number: number)
    def slow(number: int) -> int:
        threads.add(threading.get_ident())
        return number

    done = await cache.warm(slow, range(5), concurrency=2)
    assert (done.loaded, done.hit) == (5, 0)
    assert threading.get_ident() not in threads


def test_blocking_code_warms_both_kinds(runtime):
    """warm_sync runs blocking functions in threads and async ones in a loop of its own."""
    price("a")
    assert cache.warm_sync(price, ["a", "b"], concurrency=4) == cache.Warmed(1, 1, 0)
    assert cache.warm_sync(stock, ["a", "bad"]).loaded == 1

    def source():
        yield "c"
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        cache.warm_sync(price, source())


async def test_calls_past_the_cache_are_told_apart_from_hits(runtime):
    """A call that a condition sends past the cache, and one of a function that keeps nothing, are no hits."""

    @cache.cached(ttl=60, key=lambda number: number, condition=lambda number: number > 1)
    def some(number: int) -> int:
        return number

    @cache.cached(ttl=0)
    async def none(number: int) -> int:
        return number

    assert await cache.warm(some, [1, 2, 3]) == cache.Warmed(2, 0, 0, past=1)
    assert cache.warm_sync(some, [1, 2, 3]) == cache.Warmed(0, 2, 0, past=1)
    assert await cache.warm(none, [1, 2]) == cache.Warmed(0, 0, 0, past=2)


@pytest.mark.parametrize(
    ("fn", "concurrency", "code"), [(uncached, 8, "C112"), (price, 0, "C124"), (price, True, "C124")]
)
async def test_wrong_warm_ups_are_refused(runtime, fn, concurrency, code):
    """A function that is not cached and a senseless concurrency are errors before anything runs."""
    with pytest.raises(ConfigError, match=code):
        await cache.warm(fn, ["a"], concurrency=concurrency)
    with pytest.raises(ConfigError, match=code):
        cache.warm_sync(fn, ["a"], concurrency=concurrency)


async def test_blocking_warm_up_of_an_async_function_is_refused_in_a_loop(runtime):
    """It would block the loop that it needs."""
    with pytest.raises(ConfigError, match="C124"):
        cache.warm_sync(stock, ["a"])


def test_warming_goes_on_where_no_thread_can_be_had(monkeypatch, runtime):
    """The caller does the work itself."""

    def refused(_thread):
        message = "can't start new thread"
        raise RuntimeError(message)

    monkeypatch.setattr("threading.Thread.start", refused)
    assert cache.warm_sync(price, ["x", "y", "x"], concurrency=3) == cache.Warmed(2, 1, 0)


@pytest.mark.parametrize("answers", [True, False])
async def test_starting_asks_each_server_something(bench, answers):
    """An application that starts is connected before its first call, and starts where no server answers as well."""
    shop = bench.cache("l2", "l3")
    for store in bench.stores.values():
        store.failing = None if answers else StoreFailedError("refused")
    await shop.aprepare()
    assert [store.asked for store in bench.stores.values()] == [["read"], ["read"]]
    shop.prepare()
    assert [store.asked for store in bench.stores.values()] == [["read"], ["read"]]
