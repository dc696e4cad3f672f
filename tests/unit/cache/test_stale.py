"""What stands in for a load that fails: results that have expired, for as long as asked, never what was dropped."""

from __future__ import annotations

import asyncio
import logging

import pytest

from smw import cache as cache_module
from smw._kernel.flight import RecursiveLoadError
from smw._kernel.signals import CacheStale
from smw.cache.loading.stale import REST_S
from smw.cache.ports import StoreFailedError
from tests.unit.cache.shapes import SHAPES, Shaped

each_shape = pytest.mark.parametrize("shape", SHAPES, ids="-".join)
each_level = pytest.mark.parametrize("levels", [(), ("l2",), ("l3",), ("l2", "l3")], ids=str)
each_server = pytest.mark.parametrize("levels", [("l2",), ("l3",), ("l2", "l3")], ids=str)
SYNC = ("function", "sync")


class Origin:
    """A source that can be down."""

    def __init__(self) -> None:
        self.is_down = False
        self.value = "old"

    def __call__(self, number: int) -> dict:
        if self.is_down:
            raise ConnectionError(number)
        return {"number": number, "value": self.value}


@pytest.fixture
def origin():
    return Origin()


@each_shape
@each_level
async def test_an_expired_result_stands_in_for_a_load_that_fails(bench, origin, shape, levels):
    """Every caller gets an expired result of its own, and after `stale_if_error` the error."""
    load = Shaped(bench.cache(*levels), shape, origin, 60, stale_if_error=100)
    await load()
    origin.is_down = True
    bench.clock.advance(61)
    for _ in range(3):
        result = await load()
        assert result == {"number": 1, "value": "old"}
        result["value"] = "spoilt"
    bench.clock.advance(98)
    assert (await load())["value"] == "old"
    bench.clock.advance(2)
    with pytest.raises(ConnectionError):
        await load()
    with pytest.raises(ConnectionError):
        await load(2)  # there never was a result


@each_level
async def test_without_the_option_the_error_is_raised(bench, origin, levels):
    """Nobody gets an expired result who has not asked for it."""
    load = Shaped(bench.cache(*levels), SYNC, origin, 60)
    await load()
    origin.is_down = True
    bench.clock.advance(61)
    with pytest.raises(ConnectionError):
        await load()


@each_shape
@each_level
async def test_after_a_failed_load_the_source_has_a_rest(bench, origin, shape, levels):
    """The next load is tried a second later, and its result ends the emergency."""
    load = Shaped(bench.cache(*levels), shape, origin, 60, stale_if_error=1000)
    await load()
    origin.is_down = True
    bench.clock.advance(61)
    for _ in range(5):
        await load()
    assert load.runs == 2
    bench.clock.advance(REST_S + 0.1)
    await load()
    assert load.runs == 3
    origin.is_down, origin.value = False, "new"
    assert (await load())["value"] == "old"
    bench.clock.advance(REST_S + 0.1)
    assert (await load())["value"] == "new"
    assert (await load())["value"] == "new"
    assert load.runs == 4


@each_server
async def test_what_another_process_stored_stands_in_too(bench, origin, levels):
    """A process that never had the result takes the expired one of a server, for as long as its writer allowed."""
    here = Shaped(bench.cache(*levels), SYNC, origin, 60, stale_if_error=100)
    there = Shaped(bench.cache(*levels), SYNC, origin, 60, stale_if_error=100_000)
    await here()
    origin.is_down = True
    bench.clock.advance(61)
    assert (await there())["value"] == "old"
    assert cache_module.info(there.fn).stale[levels[0]] == 1
    bench.clock.advance(100)
    with pytest.raises(ConnectionError):
        await there()


async def doubtful(here, there, shape, *, bench, origin, when):
    """Return a loader over a source that is down: its value has expired, and is dropped `there` by the end of a load.

    Args:
        here: Where the loader is.
        there: Where the value is dropped.
        shape: The loader's.
        bench: Whose clock goes on.
        origin: The source.
        when: ``before`` the load that fails, ``during`` that load, or while the source has a ``rest`` after one.
    """

    def act(number: int) -> dict:
        if when == "during" and origin.is_down:
            there.drop_sync(tags=["t"])
        return origin(number)

    load = Shaped(here, shape, act, 60, stale_if_error=100, tags=["t"])
    await load()
    origin.is_down = True
    bench.clock.advance(61)
    if when == "rest":
        assert (await load())["value"] == "old"
    if when != "during":
        there.drop_sync(tags=["t"])
    return load


@each_shape
@each_level
@pytest.mark.parametrize("when", ["before", "during", "rest"])
async def test_what_was_dropped_never_stands_in(bench, origin, shape, levels, when):
    """A drop before the failed load, while it runs, or while the source rests: the error is raised."""
    cache = bench.cache(*levels)
    load = await doubtful(cache, cache, shape, bench=bench, origin=origin, when=when)
    with pytest.raises(ConnectionError):
        await load()


@each_server
@pytest.mark.parametrize("when", ["before", "during", "rest"])
async def test_what_another_process_dropped_never_stands_in(bench, origin, levels, when):
    """The servers are asked once more after a load has failed, however long it took."""
    here, there = bench.cache(*levels), bench.cache(*levels)
    load = await doubtful(here, there, SYNC, bench=bench, origin=origin, when=when)
    with pytest.raises(ConnectionError):
        await load()


async def test_where_no_server_answers_memory_stands_in(bench, origin):
    """An outage of servers and source together is what the option is for."""
    load = Shaped(bench.cache("l2"), SYNC, origin, 60, stale_if_error=100)
    await load()
    origin.is_down = True
    bench.clock.advance(61)
    bench.stores["l2"].failing = StoreFailedError("timeout")
    assert (await load())["value"] == "old"


async def test_a_drop_that_no_server_heard_holds_here(bench, origin):
    """What this process dropped while its server was away does not come back from there to stand in."""
    cache = bench.cache("l2")
    load = Shaped(cache, SYNC, origin, 60, stale_if_error=100, tags=["t"])
    await load()
    origin.is_down = True
    bench.clock.advance(61)
    bench.stores["l2"].failing = StoreFailedError("timeout")
    cache.drop_sync(tags=["t"])
    bench.stores["l2"].failing = None
    with pytest.raises(ConnectionError):
        await load()


async def test_all_who_wait_for_a_failed_load_get_the_expired_result(cache, bench, origin):
    """One load for all of them, and none of them an error."""

    async def act(number: int) -> dict:
        await asyncio.sleep(0.01)
        return origin(number)

    load = Shaped(cache, ("function", "async"), act, 60, stale_if_error=100)
    await load()
    origin.is_down = True
    bench.clock.advance(61)
    results = await asyncio.gather(*[load() for _ in range(20)])
    assert [result["value"] for result in results] == ["old"] * 20
    assert len({id(result) for result in results}) == 20
    assert load.runs == 2


async def test_a_result_that_a_server_got_meanwhile_is_better_than_an_expired_one(bench, origin):
    """Where another process has loaded it while the load here failed, its result is handed out."""
    other = Shaped(bench.cache("l2"), ("function", "async"), origin, 60)

    async def act(number: int) -> dict:
        if origin.is_down:
            origin.is_down, origin.value = False, "new"
            await other(number)
            raise ConnectionError(number)
        return origin(number)

    load = Shaped(bench.cache("l2"), ("function", "async"), act, 60, stale_if_error=100)
    await load()
    await other()
    bench.clock.advance(61)
    origin.is_down = True
    assert (await load())["value"] == "new"
    assert cache_module.info(load.fn).stale == {"l1": 0, "l2": 0}


async def test_errors_that_are_answers_are_raised(bench, cache):
    """An exception of `cache_exceptions` says that there is nothing now; nothing stands in for it."""
    gone = []

    def act(number: int) -> int:
        if gone:
            raise KeyError(number)
        return number

    load = Shaped(cache, SYNC, act, 60, stale_if_error=100, cache_exceptions=KeyError, negative_ttl=5)
    await load()
    bench.clock.advance(61)
    gone.append(1)
    for _ in range(2):
        with pytest.raises(KeyError):
            await load()
    assert load.runs == 2


async def test_a_kept_exception_does_not_stand_in_when_it_has_expired(bench, cache, origin):
    """After its time only the error of the moment counts."""
    failing = [KeyError]

    def act(number: int) -> int:
        raise failing[0](number)

    load = Shaped(cache, SYNC, act, 60, stale_if_error=100, cache_exceptions=KeyError, negative_ttl=5)
    with pytest.raises(KeyError):
        await load()
    bench.clock.advance(6)
    failing[0] = ConnectionError
    with pytest.raises(ConnectionError):
        await load()


@each_shape
@each_level
@pytest.mark.parametrize(
    "options",
    [
        {"unless": lambda result: result is None}, {"negative_ttl": 0},
        {"cache_exceptions": KeyError, "negative_ttl": 5},
    ],
    ids=["unless", "negative", "exception"],
)  # fmt: skip
async def test_what_a_newer_answer_has_superseded_never_stands_in(bench, shape, levels, options):
    """A result that is gone at its source stays gone when the source is down, although no newer one was kept."""
    answers: list = ["old", KeyError("gone") if "cache_exceptions" in options else None, ConnectionError()]

    def act(_number: int) -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    load = Shaped(bench.cache(*levels), shape, act, 60, stale_if_error=100, **options)
    assert await load() == "old"
    bench.clock.advance(61)
    if "cache_exceptions" in options:
        with pytest.raises(KeyError):
            await load()
    else:
        assert await load() is None
    bench.clock.advance(6)
    with pytest.raises(ConnectionError):
        await load()


@each_server
async def test_a_newer_answer_that_memory_has_alone_supersedes_what_servers_have(bench, levels):
    """A result that no server takes drops the older one that it has: nobody is handed that when the source is down."""
    answers: list = ["old", object(), ConnectionError()]

    def act(_number: int) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    load, other = (Shaped(bench.cache(*levels), SYNC, act, 60, stale_if_error=100, copy="share") for _ in range(2))
    assert await load() == "old"
    bench.clock.advance(61)
    assert type(await load()) is object
    with pytest.raises(ConnectionError):
        await other()


@each_level
async def test_what_is_dropped_while_an_answer_supersedes_an_older_one_is_not_kept(bench, levels, monkeypatch):
    """An exception that is about to be kept is forgotten if its key's tag is dropped in that moment."""
    users, cache, begun = {1: "old"}, bench.cache(*levels), []
    load = Shaped(
        cache, SYNC, users.__getitem__, 60, stale_if_error=100, tags=["t"], cache_exceptions=KeyError, negative_ttl=50
    )
    assert await load() == "old"
    bench.clock.advance(61)
    del users[1]
    drop = cache.engine.remote.drop

    async def dropped(*args, **how):
        await drop(*args, **how)
        if not begun:
            begun.append(True)
            users[1] = "new"
            cache.drop_sync(tags=["t"])

    monkeypatch.setattr(cache.engine.remote, "drop", dropped)
    with pytest.raises(KeyError):
        await load()
    assert begun
    assert await load() == "new"


async def test_a_function_that_waits_for_itself_is_told_so(bench, cache):
    """A programming error is no failure of the source."""
    depth = []

    def act(number: int) -> int:
        return cached_act(number) if depth else number

    cached_act = cache.cached(60, stale_if_error=100)(act)
    cached_act(1)
    bench.clock.advance(61)
    depth.append(1)

    async def later(number: int) -> int:
        return await cached_later(number) if depth else number

    cached_later = cache.cached(60, stale_if_error=100)(later)
    with pytest.raises(RecursiveLoadError):
        await cached_later(1)
    with pytest.raises(RecursiveLoadError):
        cached_act(1)


async def test_standing_in_is_told(bench, cache, origin, caplog):
    """A signal for each failed load, a count for each call, one warning a minute, and `info` tells the level."""
    load = Shaped(cache, SYNC, origin, 60, stale_if_error=1000)
    await load()
    origin.is_down = True
    bench.clock.advance(61)
    with caplog.at_level(logging.WARNING, "smw.cache"):
        for _ in range(3):
            await load()
            await load()
            bench.clock.advance(REST_S + 0.1)
    told = cache.recorded.of(CacheStale)
    assert [(signal.fn, signal.reason) for signal in told] == [(cache_module.info(load.fn).fn, "ConnectionError")] * 3
    assert cache_module.info(load.fn).stale == {"l1": 6}
    assert cache_module.info(load.fn).hits == {"l1": 0}
    assert len(caplog.records) == 1
    assert "ConnectionError" in caplog.text


async def test_rests_are_remembered_within_bounds(bench, cache, origin):
    """However many keys fail at once, what is remembered of them does not grow without end."""
    load = Shaped(cache, SYNC, origin, 60, stale_if_error=1000)
    function = load.fn.__smw_stack__.advices[0].function(load.fn.__smw_stack__.target)
    for number in range(900):
        await load(number)
    origin.is_down = True
    for _ in range(3):
        bench.clock.advance(61)
        for number in range(900):
            await load(number)
    assert len(function._resting._until) <= 1000
