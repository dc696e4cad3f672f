"""What the options of one decorator change: how long what lives, what is kept, which calls use the cache."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import inspect
import logging
import traceback
import weakref
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import pytest

import smw
from smw import cache as cache_module
from smw._kernel.signals import CacheUncached
from smw.cache import Cache
from smw.cache.loading.ttl import Learned
from smw.cache.options import Options, checked
from smw.cache.values.codec import Codec
from smw.errors import DecorationError
from tests.unit.cache.shapes import SHAPES, Shaped

each_shape = pytest.mark.parametrize("shape", SHAPES, ids="-".join)


def outcomes(cache) -> dict[tuple[str, str], float]:
    """Return (level, outcome) → count, of all functions together."""
    found: dict[tuple[str, str], float] = {}
    for fact in cache.host.facts:
        if fact.name == "smw_cache_requests_total":
            labels = dict(fact.labels)
            pair = labels["level"], labels["outcome"]
            found[pair] = found.get(pair, 0) + fact.value
    return found


@each_shape
async def test_memory_may_keep_a_result_shorter_than_servers(bench, shape):
    """With `l1_ttl` memory asks the servers again, and the function is not called."""
    cache = bench.cache("l2", l1_trust_ms=100_000)
    load = Shaped(cache, shape, lambda number: number, 60, l1_ttl=timedelta(seconds=5))
    await load()
    bench.clock.advance(4.9)
    asked = len(bench.stores["l2"].asked)
    await load()
    assert len(bench.stores["l2"].asked) == asked
    bench.clock.advance(0.2)
    await load()
    assert load.runs == 1
    assert cache_module.info(load.fn).hits == {"l1": 1, "l2": 1}


@each_shape
async def test_without_servers_a_result_lives_as_long_as_memory_may_keep_it(bench, cache, shape):
    """`l1_ttl` ends an entry also where nothing stands behind memory."""
    load = Shaped(cache, shape, lambda number: number, 60, l1_ttl=5)
    await load()
    bench.clock.advance(5.1)
    await load()
    assert load.runs == 2


@each_shape
@pytest.mark.parametrize("levels", [(), ("l2",)])
async def test_none_lives_as_long_as_negative_ttl_says(bench, shape, levels):
    """None ends earlier than other results, in memory and on servers."""
    cache = bench.cache(*levels)
    load = Shaped(cache, shape, lambda number: None if number == 1 else number, 60, negative_ttl=5)
    await load(1), await load(2)
    bench.clock.advance(5.1)
    assert (await load(1), await load(2)) == (None, 2)
    assert load.runs == 3


async def test_none_may_be_kept_not_at_all(cache):
    """With `negative_ttl=0` every call that finds nothing looks again."""
    load = Shaped(cache, ("function", "sync"), lambda _number: None, negative_ttl=0)
    await load(), await load()
    assert load.runs == 2


class Missing(LookupError):
    """An error with a constructor of its own."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__(f"no {number}")
        self.number = number
        self.seen = [number]


@dataclass(frozen=True)
class Frozen(LookupError):
    """An exception whose attributes cannot be set."""

    number: int


def fails(number: int):
    raise Missing(number)


@each_shape
@pytest.mark.parametrize("levels", [(), ("l2",)])
async def test_an_exception_may_be_kept(bench, shape, levels):
    """The function is not called again before `negative_ttl` has passed, and each caller gets an error of its own."""
    cache = bench.cache(*levels)
    load = Shaped(cache, shape, fails, 60, cache_exceptions=(LookupError,), negative_ttl=5)
    raised = []
    for _ in range(3):
        with pytest.raises(Missing, match="no 7") as caught:
            await load(7)
        raised.append(caught.value)
    assert load.runs == 1
    assert len({id(error) for error in raised}) == 3
    assert [(error.number, error.seen) for error in raised] == [(7, [7])] * 3
    assert [error.__context__ for error in raised] == [None] * 3
    assert "fails" not in "".join(traceback.format_exception(raised[1]))
    assert outcomes(cache)["l1", "negative"] == 2
    assert outcomes(cache)["l1", "hit"] == 0
    bench.clock.advance(5.1)
    with pytest.raises(Missing):
        await load(7)
    assert load.runs == 2


async def test_a_kept_exception_is_dropped_like_any_result(bench):
    """A drop here ends it at once, one of another process once memory asks again."""
    here, there = bench.cache("l2", l1_trust_ms=1000), bench.cache("l2")
    failing = [True]

    def act(number: int) -> int:
        return fails(number) if failing[0] else number

    load = Shaped(here, ("function", "sync"), act, tags=["t"], cache_exceptions=Missing, negative_ttl=50)
    other = Shaped(there, ("function", "sync"), act, tags=["t"])
    for drop in (here.drop_sync, there.drop_sync):
        failing[0] = True
        with pytest.raises(Missing):
            await load(1)
        with pytest.raises(Missing):
            await other(1)  # not kept: this one was not told to
        failing[0] = False
        drop(tags=["t"])
        bench.clock.advance(1.1)
        assert await load(1) == 1
        here.drop_sync(tags=["t"])


async def test_other_exceptions_are_not_kept(cache):
    """Only what is named is kept, and the two ways of naming one class mean the same."""
    load = Shaped(cache, ("function", "sync"), fails, cache_exceptions=(OSError,), negative_ttl=5)
    for _ in range(2):
        with pytest.raises(Missing):
            await load()
    assert load.runs == 2


class Held:
    """Something that a frame holds."""


async def test_a_kept_exception_holds_no_frames(cache):
    """What the function had in its hands when it raised is free once its caller has let go of the error."""
    refs = []

    def act(number: int) -> int:
        held = Held()
        refs.append(weakref.ref(held))
        try:
            {}[number]
        except KeyError as error:
            raise Missing(number) from error

    load = Shaped(cache, ("function", "sync"), act, cache_exceptions=Missing, negative_ttl=5)
    for _ in range(2):
        with pytest.raises(Missing):
            await load()
    gc.collect()
    assert refs[0]() is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(2, "no such file", "name"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), KeyError("k"),
        ValueError(), Missing(1), ExceptionGroup("both", [ValueError(1), KeyError(2)]), Frozen(1),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_kept_exceptions_read_as_the_first_one(cache, error):
    """Whatever its constructor takes, the copy has the same type, text and arguments."""

    def act(_number: int) -> int:
        raise error

    load = Shaped(cache, ("function", "async"), act, cache_exceptions=Exception, negative_ttl=5)
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            await load()
    assert caught.value is not error
    assert (str(caught.value), repr(caught.value.args)) == (str(error), repr(error.args))


@pytest.mark.parametrize("given", [Exception, StopIteration, (OSError, StopIteration)], ids=repr)
def test_the_end_of_an_iterator_may_be_kept(cache, given):
    """It reaches each caller as itself, from the compiled entry, past it and from `peek`."""
    runs = []

    @cache.cached(60, cache_exceptions=given, negative_ttl=5, key=lambda *numbers: numbers)
    def keyed(*numbers: int) -> int:
        return first(*numbers)

    @cache.cached(60, cache_exceptions=given, negative_ttl=5)
    def plain(number: int) -> int:
        return first(number)

    def first(*numbers: int) -> int:
        runs.append(numbers)
        raise StopIteration(*numbers)

    for fn in (plain, keyed):
        asked = [fn, fn, fn, lambda number, fn=fn: cache.peek_sync(cache_module.key_for(fn, number))]
        for call in asked:
            with pytest.raises(StopIteration) as caught:
                call(7)
            assert caught.value.args == (7,)
    assert runs == [(7,), (7,)]


def test_the_end_of_an_iterator_is_no_other_exception(cache):
    """What carries it through the chain is of no class that is named for others."""
    runs = []

    @cache.cached(60, cache_exceptions=(RuntimeError, LookupError), negative_ttl=5)
    def load(number: int) -> int:
        runs.append(number)
        raise StopIteration

    for _ in range(2):
        with pytest.raises(StopIteration):
            load(1)
    assert runs == [1, 1]


async def test_what_a_caller_adds_to_a_kept_exception_is_seen_by_no_other(cache):
    """Notes and lists of one reader, the first one included, are not those of the next."""

    def act(number: int) -> int:
        error = Missing(number)
        error.add_note("of the function")
        raise error

    load = Shaped(cache, ("function", "sync"), act, cache_exceptions=Missing, negative_ttl=5)
    for _ in range(3):
        with pytest.raises(Missing) as caught:
            await load()
        assert (caught.value.seen, caught.value.__notes__) == ([1], ["of the function"])
        caught.value.seen.append("spoilt")
        caught.value.add_note("of one request")


async def test_what_is_deep_in_a_kept_exception_is_a_readers_own(cache):
    """Containers within its arguments, and the exceptions of a group with their tracebacks, are no other's."""

    def act(_number: int) -> int:
        raise ExceptionGroup("both", [ValueError({"errors": ["first"]}), KeyError(2)])

    load = Shaped(cache, ("function", "sync"), act, cache_exceptions=Exception, negative_ttl=5)
    depths = []
    for _ in range(3):
        with pytest.raises(ExceptionGroup) as caught:
            await load()
        first = caught.value.exceptions[0]
        assert first.args == ({"errors": ["first"]},)
        first.args[0]["errors"].append("of one reader")
        with pytest.raises(ValueError, match="first") as raised:
            raise first
        depths.append(len(list(traceback.walk_tb(raised.value.__traceback__))))
    assert depths == [1, 1, 1]


async def test_what_a_kept_exception_holds_twice_is_copied_once(cache):
    """Nor does it matter that it holds itself: it is kept, and each reader has one of its own."""

    def act(_number: int) -> int:
        error, doubled = LookupError(), []
        for _ in range(8):
            doubled = [doubled, doubled]
        error.args, error.own = (doubled,), {"error": error}
        raise error

    load = Shaped(cache, ("function", "sync"), act, cache_exceptions=LookupError, negative_ttl=5)
    found = []
    for _ in range(2):
        with pytest.raises(LookupError) as caught:
            await load()
        found.append(caught.value)
    assert load.runs == 1
    for error in found:
        assert error.own["error"] is error
        assert error.args[0][0] is error.args[0][1]
    assert found[0].args[0] is not found[1].args[0]


async def test_a_kept_exception_counts_as_much_as_it_holds(cache):
    """What is in its arguments counts towards the bytes of memory."""

    def act(_number: int) -> int:
        raise LookupError("x" * 100_000)

    load = Shaped(cache, ("function", "sync"), act, cache_exceptions=LookupError, negative_ttl=5)
    with pytest.raises(LookupError):
        await load()
    assert cache.engine.memory.bytes > 100_000


async def test_an_exception_that_cannot_be_copied_reaches_the_caller_and_is_not_kept(cache):
    """The function's own exception is raised, each time anew, not the complaint of its class; that is counted."""

    class Uncopyable(LookupError):
        def __new__(cls, *, number: int) -> Self:
            return super().__new__(cls, number)

        def __init__(self, *, number: int) -> None:
            super().__init__(f"number {number}")

    calls: list[int] = []

    def act(number: int) -> int:
        calls.append(number)
        raise Uncopyable(number=number)

    load = Shaped(cache, ("function", "sync"), act, cache_exceptions=LookupError, negative_ttl=5)
    for _ in range(2):
        with pytest.raises(Uncopyable, match="number"):
            await load()
    assert len(calls) == 2
    assert [signal.reason for signal in cache.recorded.of(CacheUncached)] == ["uncopyable-exception"] * 2


@each_shape
async def test_a_condition_decides_which_calls_use_the_cache(cache, shape):
    """Calls for which it says no neither read nor fill, and are counted."""
    load = Shaped(cache, shape, lambda number: number, condition=lambda number: number < 10)
    for number in (1, 1, 10, 10):
        assert await load(number) == number
    assert load.runs == 3
    assert outcomes(cache)["none", "bypass"] == 2
    assert cache_module.info(load.fn).entries == 1


async def test_a_condition_that_raises_sends_the_call_past_the_cache(cache, caplog):
    """The function answers, the call is counted as uncached, and one warning says why."""

    def condition(number: int) -> bool:
        return number / 0 > 1

    load = Shaped(cache, ("function", "sync"), lambda number: number, condition=condition)
    with caplog.at_level(logging.WARNING, "smw.cache"):
        assert [await load(1), await load(1)] == [1, 1]
    assert [signal.reason for signal in cache.recorded.of(CacheUncached)] == ["failing-condition"] * 2
    assert len(caplog.records) == 1
    assert "condition=" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@each_shape
@pytest.mark.parametrize("levels", [(), ("l2",), ("l2", "l3")])
async def test_unless_says_which_results_are_not_kept(bench, shape, levels):
    """What it rejects is returned and kept in no level; everything else is kept."""
    load = Shaped(bench.cache(*levels), shape, lambda number: [] if number == 1 else [number], unless=lambda r: not r)
    for number in (1, 1, 2, 2):
        await load(number)
    assert load.runs == 3
    assert all(len(store.data) == 1 for store in bench.stores.values())
    assert cache_module.info(load.fn).uncached == 0


async def test_a_rejected_result_is_still_shared_by_those_who_waited_for_it(cache):
    """Ten callers that meet run the function once, though its result is not kept, and none gets another's object."""

    async def act(number: int) -> list[int]:
        await asyncio.sleep(0.01)
        return [number]

    load = Shaped(cache, ("function", "async"), act, unless=lambda _result: True)
    results = await asyncio.gather(*[load(1) for _ in range(10)])
    assert load.runs == 1
    assert len({id(result) for result in results}) == 10
    await load(1)
    assert load.runs == 2


async def test_an_unless_that_raises_keeps_nothing(cache, caplog):
    """The result is returned, counted as uncached, and one warning says why."""
    load = Shaped(cache, ("function", "sync"), lambda number: number, unless=lambda result: result["x"])
    with caplog.at_level(logging.WARNING, "smw.cache"):
        assert [await load(1), await load(1)] == [1, 1]
    assert load.runs == 2
    assert [signal.reason for signal in cache.recorded.of(CacheUncached)] == ["failing-unless"] * 2
    assert len(caplog.records) == 1


async def never(*_args):
    """Answer, but not at once."""
    return False


def late(*args):
    """Answer with a coroutine, which nobody can tell beforehand."""
    return never(*args)


class Later:
    """A callable whose answer has to be awaited."""

    async def __call__(self, *_args):
        return False


@pytest.mark.parametrize("option", ["condition", "unless", "key", "ttl"])
@pytest.mark.parametrize("given", [never, Later(), functools.partial(never, 1), (lambda: (yield))])
def test_what_answers_later_is_refused_when_decorating(option, given):
    """A coroutine is true whatever it would come to, and so is a generator."""
    with pytest.raises(DecorationError, match=f"{option}= takes a function that answers without being awaited"):
        Cache().cached(**({"ttl": 60} | {option: given}))


@pytest.mark.parametrize("option", ["unless", "ttl"])
@pytest.mark.parametrize("given", [lambda: 60, lambda user_id, result: 60, lambda *, result: 60])
def test_what_does_not_take_the_result_alone_is_refused_when_decorating(option, given):
    """Its author is told then, not by results that are never kept."""
    with pytest.raises(DecorationError, match=rf"SMW-C108.* {option}= is called with the result and nothing else"):
        Cache().cached(**({"ttl": 60} | {option: given}))


@pytest.mark.parametrize("option", ["condition", "key"])
@pytest.mark.parametrize("given", [lambda: 0, lambda user_id, *, more: 0, lambda number, name, more: 0])
def test_what_fits_no_call_is_refused_when_decorating(option, given):
    """Whoever gets the arguments of a call takes those of some call; the message says of which function."""
    with pytest.raises(DecorationError, match=rf"SMW-C108.* given as {option}= is called as \S*load is") as caught:

        @Cache().cached(60, **{option: given})
        def load(number, name="", *, lang=""): ...

    assert f"{option}=a function of the parameters (number, name='', *, lang='')" in str(caught.value)


@pytest.mark.parametrize("option", ["condition", "key"])
@pytest.mark.parametrize("given", [abs, lambda number: number, lambda number, lang: number, lambda *_, **more: 1])
def test_what_fits_one_way_of_calling_is_taken(option, given):
    """Which of the arguments are left out, and which go by name, is up to the callers."""
    decorate = Cache().cached(60, **{option: given})
    assert decorate(lambda number, name="", *, lang="": number)(3) == 3
    assert decorate(lambda *args, **more: 3)(3) == 3


@pytest.mark.parametrize("option", ["condition", "unless", "key", "ttl"])
@each_shape
async def test_an_answer_that_has_to_be_awaited_keeps_nothing(cache, shape, caplog, option):
    """The function answers, the call is counted as uncached, one warning says why, and no coroutine is left over."""
    told = {"ttl": 60} | {option: late}
    load = Shaped(cache, shape, lambda number: number, **told)
    with caplog.at_level(logging.WARNING, "smw.cache"):
        assert [await load(1), await load(1)] == [1, 1]
    assert load.runs == 2
    assert [signal.reason for signal in cache.recorded.of(CacheUncached)] == [f"failing-{option}"] * 2
    (message,) = caplog.messages
    assert f"{option}=" in message
    assert "AwaitableAnswerError" in message


@pytest.mark.parametrize("levels", [(), ("l2",)])
async def test_lives_differ_by_chance_and_are_never_longer(bench, levels):
    """Results stored together end over a span of a tenth of their time, none of them late."""
    cache = bench.cache(*levels, jitter=0.1)
    load = Shaped(cache, ("function", "sync"), lambda number: number, 100)
    for number in range(200):
        await load(number)
    bench.clock.advance(89.9)
    for number in range(200):
        await load(number)
    assert load.runs == 200
    bench.clock.advance(5)
    for number in range(200):
        await load(number)
    assert 260 < load.runs < 340
    bench.clock.advance(5.2)
    cache.drop_sync(tags=["none"])
    before = load.runs
    for number in range(200):
        await load(number)
    assert load.runs - before > 60


@pytest.mark.parametrize(("profile", "jitter"), [("testing", 0.0), ("development", 0.1), ("production", 0.1)])
def test_jitter_is_off_in_tests_alone(bench, profile, jitter):
    """Where nothing is set, tests get the times that they ask for."""
    assert bench.cache(profile=profile)._engine.jitter == jitter
    assert bench.cache(profile=profile, jitter=0.3)._engine.jitter == 0.3


@each_shape
@pytest.mark.parametrize("levels", [(), ("l2",)])
async def test_the_value_may_say_how_long_it_lives(bench, shape, levels):
    """A function given as `ttl` is asked for each result; 0 keeps nothing, in memory and on servers."""
    load = Shaped(bench.cache(*levels), shape, lambda number: {"for": number}, lambda result: result["for"])
    for number in (0, 5, 50):
        await load(number)
    bench.clock.advance(4.9)
    for number in (0, 5, 50):
        await load(number)
    assert load.runs == 4
    bench.clock.advance(0.2)
    for number in (0, 5, 50):
        await load(number)
    assert load.runs == 6
    assert cache_module.info(load.fn).ttl_s is None
    assert all(len(store.data) <= 2 for store in bench.stores.values())


class Wordless:
    """What cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


async def test_a_life_that_cannot_be_shown_does_not_reach_the_caller(cache, caplog):
    """The call has succeeded: what `ttl=` returned, be it an object whose text raises, is no affair of its caller."""
    load = Shaped(cache, ("function", "sync"), lambda number: number, lambda _result: Wordless())
    with caplog.at_level(logging.WARNING, "smw.cache"):
        assert [await load(1), await load(1)] == [1, 1]
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize("ttl", [None, -1, float("nan"), "60", True], ids=repr)
async def test_a_life_that_is_none_keeps_nothing(cache, caplog, ttl):
    """The result is returned, each is counted, one warning says what was wrong."""
    load = Shaped(cache, ("function", "sync"), lambda number: number, lambda _result: ttl)
    with caplog.at_level(logging.WARNING, "smw.cache"):
        assert [await load(1), await load(1)] == [1, 1]
    assert load.runs == 2
    assert [signal.reason for signal in cache.recorded.of(CacheUncached)] == ["failing-ttl"] * 2
    assert len(caplog.records) == 1
    assert repr(ttl) in caplog.text


async def test_a_life_that_cannot_be_told_keeps_nothing(cache, caplog):
    """Where the function given as `ttl` raises, the call returns its result all the same."""
    load = Shaped(cache, ("function", "async"), lambda number: number, lambda result: result / 0)
    with caplog.at_level(logging.WARNING, "smw.cache"):
        assert [await load(1), await load(1)] == [1, 1]
    assert load.runs == 2
    assert "ZeroDivisionError" in caplog.text


async def test_a_life_may_be_a_timedelta_or_endless(bench, cache):
    """A timedelta is taken, and more than ten years is cut to that."""
    lives = {1: timedelta(seconds=5), 2: float("inf")}
    load = Shaped(cache, ("function", "sync"), lambda number: number, lives.__getitem__)
    await load(1), await load(2)
    bench.clock.advance(5.1)
    await load(1), await load(2)
    assert load.runs == 3


async def lived(bench, load) -> float:
    """Return how long a fresh result of `load` lives, to an eighth of a second."""
    await load()
    runs, began = load.runs, bench.clock.now()
    while load.runs == runs:
        bench.clock.advance(0.125)
        await load()
    return bench.clock.now() - began


@each_shape
@pytest.mark.parametrize("levels", [(), ("l2",)])
async def test_what_does_not_change_is_kept_ever_longer(bench, shape, levels):
    """Equal values double the time up to the longest; values that differ halve it down to the shortest."""
    value = {"a": [1]}
    load = Shaped(bench.cache(*levels), shape, lambda _number: value, cache_module.Auto(1, 16))
    assert [await lived(bench, load) for _ in range(4)] == [4.0, 8.0, 16.0, 16.0]

    load = Shaped(
        bench.cache(*levels), shape, lambda _number: {"a": [load.runs]}, cache_module.Auto(1, 16), version="2"
    )
    assert [await lived(bench, load) for _ in range(4)] == [4.0, 2.0, 1.0, 1.0]


async def test_each_key_learns_for_itself(bench, cache):
    """One key that changes does not shorten the life of another."""
    load = Shaped(cache, ("function", "sync"), lambda number: load.runs if number == 1 else 0, "auto")
    for number in (1, 2):
        await load(number)
    bench.clock.advance(61)
    for number in (1, 2):
        await load(number)
    bench.clock.advance(31)
    runs = load.runs
    for number in (1, 2):
        await load(number)
    assert load.runs == runs + 1


async def test_values_without_a_form_as_bytes_teach_nothing(bench, cache):
    """Where equality cannot be told the time stays in the middle."""
    load = Shaped(cache, ("function", "sync"), lambda _number: Held(), cache_module.Auto(1, 16), copy="share")
    assert [await lived(bench, load) for _ in range(3)] == [4.0, 4.0, 4.0]


def test_what_is_learned_is_bounded():
    """Ever new keys do not grow what is remembered without end, and the ones loaded last are known."""
    learned = Learned(cache_module.Auto(1, 16), Codec())
    for number in range(10_500):
        learned.next(number, 1)
    assert len(learned) == 10_000
    assert learned.next(10_499, 1) == 8.0
    assert learned.next(0, 1) == 4.0


@pytest.mark.parametrize(("ttl", "logged"), [(60, 60.0), (lambda _result: 60, None), ("auto", None)], ids=str)
async def test_log_records_carry_a_time_to_live_that_is_one_for_all(cache, caplog, ttl, logged):
    """Where each result has its own the record has none, rather than a wrong one."""
    load = Shaped(cache, ("function", "sync"), lambda number: number, ttl)
    with caplog.at_level(logging.DEBUG, "smw.cache"):
        await load()
    assert [record.ttl for record in caplog.records if record.getMessage() == "cache miss"] == [logged]


@pytest.mark.parametrize("flight", ["Fleet", "none", None, 1, ["off"]])
def test_a_flight_is_one_of_three(cache, flight):
    """Anything else is refused when decorating, with the nearest of them."""
    with pytest.raises(DecorationError, match="SMW-C180"):
        cache.cached(60, flight=flight)


async def test_without_flights_every_caller_runs_the_function(cache):
    """`off` shares nothing but what is in memory, and a process's flights share one run."""
    runs = []

    async def load(key: int) -> int:
        runs.append(key)
        await asyncio.sleep(0)
        return key

    for flight, expected in (("off", 3), ("process", 1), ("fleet", 1)):
        runs.clear()
        decorated = cache.cached(60, version=flight, flight=flight)(load)
        assert await asyncio.gather(*(decorated(1) for _ in range(3))) == [1, 1, 1]
        assert len(runs) == expected
        assert await decorated(1) == 1
        assert len(runs) == expected


def short(number: int) -> int:
    return number


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("key", short, "key=short"),
        ("version", "7", "version='7'"),
        ("l1_ttl", 5, "l1_ttl=5"),
        ("negative_ttl", 5, "negative_ttl=5"),
        ("condition", short, "condition=short"),
        ("unless", short, "unless=short"),
        ("stale_if_error", 90, "stale_if_error=90"),
        ("refresh_ahead", 0.5, "refresh_ahead=0.5"),
        ("hard_timeout", 3, "hard_timeout=3"),
        ("depends", "auto", "depends='auto'"),
        ("flight", "off", "flight='off'"),
        ("warm", "fleet", "warm='fleet'"),
        ("many", lambda number: {}, "many="),
    ],
)
def test_explain_shows_each_option_that_was_told(bench, name, value, shown):
    """What is as it is by itself is left out, and nothing else."""
    plain, told = (repr(smw.explain(bench.cache().cached(60, **more)(short))) for more in ({}, {name: value}))
    assert shown in told
    assert f"{name}=" not in plain


def test_explain_shows_kept_exceptions(bench):
    """With the classes by name."""
    fn = bench.cache().cached(60, negative_ttl=5, cache_exceptions=(LookupError, KeyError))(short)
    assert "cache_exceptions=(LookupError, KeyError)" in repr(smw.explain(fn))


def test_explain_knows_all_options():
    """An option that is added to `cached` is shown where it is told, and not where nobody has told it."""
    always = {"ttl_s", "ttl_of", "auto", "tags", "result_tags", "levels", "copy"}
    defaults = {field.name: field.default for field in dataclasses.fields(Options) if field.name not in always}
    _ttl, *others = inspect.signature(cache_module.cached).parameters.values()
    untold = checked(60, **{parameter.name: parameter.default for parameter in others})
    assert defaults == {name: getattr(untold, name) for name in defaults}
