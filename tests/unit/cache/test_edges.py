"""Edge cases and bad inputs, each with what becomes of it and the tests that show it.

`ROWS` is the table: an input and its result, and beneath it where it is tested. What is tested nowhere else is tested
here, on functions and methods, blocking and awaiting.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import threading

import pytest

from smw import cache as cache_module
from smw._kernel.flight import RecursiveLoadError
from smw._kernel.signals import CacheTampered, CacheUncached
from smw.cache.values.tampering import Tampering
from smw.errors import ConfigError
from tests.unit.cache.rows import gone
from tests.unit.cache.shapes import SHAPES, Shaped

UNIT, SERVERS = "tests/unit/cache", "tests/integration/cache/test_servers.py"
HERE, REAL, OUTAGES = (
    f"{UNIT}/test_edges.py",
    "tests/integration/cache/test_edges.py",
    "tests/faults/test_cache_outages.py",
)
ROWS = {
    "ttl=0: not stored": f"""
        {HERE}: a_time_to_live_of_nothing_stores_nothing
        {UNIT}/test_function.py: zero_ttl_stores_nothing""",
    "ttl negative or NaN: ConfigError": f"""
        {HERE}: a_time_to_live_that_is_no_time_is_refused
        {UNIT}/test_options.py: a_life_that_is_none_keeps_nothing""",
    "ttl over ten years: capped, warned": f"""
        {UNIT}/test_decoration.py: ttl_beyond_ten_years_is_cut_and_warned
        {UNIT}/test_options.py: a_life_may_be_a_timedelta_or_endless
        {REAL}: the_longest_time_to_live_is_a_hit""",
    "argument that is unhashable: slow encoder, order-free": f"""
        {HERE}: unhashable_arguments_share_results_whatever_their_order
        tests/properties/test_keys.py: order_of_dictionaries_and_sets_is_free""",
    "argument of an unknown type: the function is called, counted": f"""
        {HERE}: an_argument_without_a_key_calls_the_function
        {UNIT}/test_function.py: unkeyable_call_runs_uncached_with_one_warning""",
    "generator, file or lock as a value: refused when decorating if known, else uncached": f"""
        {UNIT}/test_decoration.py: wrong_decoration_is_refused_with_a_remedy, async_generator_is_refused
        {HERE}: a_result_that_is_used_up_by_reading_is_not_kept
        {UNIT}/test_results.py: what_binds_its_holders_together_is_never_copied""",
    "value None: cached, `negative_ttl` if set": f"""
        {HERE}: none_is_kept_and_told_from_nothing
        {UNIT}/test_options.py: none_lives_as_long_as_negative_ttl_says, none_may_be_kept_not_at_all""",
    "value over memcached's 1 MB: skips L3, counted": f"""
        {REAL}: a_value_over_the_limit_of_memcached_skips_it""",
    "loader calls itself with the same key: RecursiveLoadError at once": f"""
        {HERE}: a_loader_that_calls_itself_is_told_at_once
        tests/unit/kernel/test_flight.py: a_loader_that_asks_for_itself_is_told""",
    "loop closed with flights open: waiters call their own loader": f"""
        {HERE}: a_loop_that_ends_leaves_nobody_waiting
        tests/unit/kernel/test_flight.py: a_closed_loop_does_not_strand_followers_elsewhere
        {SERVERS}: several_loops_one_after_the_other""",
    "fork after connect: the child reconnects": f"""
        {SERVERS}: forked_child_uses_connections_of_its_own
        tests/integration/cache/test_redis_cluster.py: a_forked_child_has_connections_of_its_own
        tests/faults/test_cache_backplane.py: a_forked_child_listens_for_itself""",
    "entry sealed with a retired key: miss": f"""
        {HERE}: an_entry_of_a_retired_key_is_a_miss
        tests/properties/test_codec.py: ring_of_keys_opens_what_any_of_them_sealed""",
    "entry bit-flipped or from another key: miss and signal": f"""
        {HERE}: an_entry_that_was_changed_or_moved_is_a_miss_and_told, tampering_is_logged_once_a_minute
        {HERE}: an_entry_that_does_not_open_is_a_counted_miss""",
    "Redis read-only, out of memory, loading, half-open: breaker; the function still answers": f"""
        {OUTAGES}: redis_refusing_to_write_still_reads, hurt_replies_never_become_wrong_values
        {OUTAGES}: a_redis_that_is_loading_is_not_asked_again, idle_connections_survive_a_quick_restart
        {OUTAGES}: hung_server_costs_little_and_then_nothing""",
}
LEVELS = [(), ("l2",), ("l3",), ("l2", "l3")]
KEYS = {"k1": b"1" * 32}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_tests(row):
    """Whoever removes or renames the test of a row is told."""
    assert gone(ROWS[row]) == []


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_time_to_live_of_nothing_stores_nothing(bench, shape, levels):
    """With `ttl=0` every call runs, and neither memory nor a server holds anything."""
    load = Shaped(bench.cache(*levels), shape, lambda number: number, ttl=0)
    assert [await load() for _ in range(3)] == [1, 1, 1]
    assert load.runs == 3
    assert [store.data for store in bench.stores.values()] == [{}] * len(levels)


@pytest.mark.parametrize("ttl", [-1, -0.001, math.nan, -math.inf])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_time_to_live_that_is_no_time_is_refused(cache, shape, ttl):
    """Negative and NaN are refused when decorating, with the remedy."""
    with pytest.raises(ConfigError, match="fix:"):
        Shaped(cache, shape, lambda number: number, ttl=ttl)


@pytest.mark.parametrize("shape", SHAPES)
async def test_unhashable_arguments_share_results_whatever_their_order(cache, shape):
    """Equal dictionaries and sets are one key in any order; lists of another order are another."""
    load = Shaped(cache, shape, len)
    assert await load({"a": {1, 2}, "b": [3]}) == await load({"b": [3], "a": {2, 1}}) == 2
    assert load.runs == 1
    await load([1, {}])
    await load([{}, 1])
    assert load.runs == 3


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_argument_without_a_key_calls_the_function(cache, shape):
    """An object without structure has no key: each call runs, is counted, and fails nobody."""
    load = Shaped(cache, shape, lambda given: type(given).__name__)
    given = object()
    assert [await load(given) for _ in range(2)] == ["object", "object"]
    assert load.runs == 2
    assert cache_module.info(load.fn).uncached == 2
    assert [signal.reason for signal in cache.recorded.of(CacheUncached)] == ["unkeyable-argument"] * 2


@pytest.mark.parametrize("levels", [(), ("l2", "l3")])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [lambda: (n for n in (1,)), tempfile.TemporaryFile, threading.Lock])
async def test_a_result_that_is_used_up_by_reading_is_not_kept(bench, shape, levels, make):
    """A generator, a file or a lock is handed to the caller for whom it was made, and to no other."""
    made = []
    load = Shaped(bench.cache(*levels), shape, lambda _number: made.append(make()) or made[-1])
    assert [await load() for _ in range(2)] == made
    assert len(made) == 2
    assert cache_module.info(load.fn).uncached == 2
    for each in made:
        getattr(each, "close", lambda: None)()


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_none_is_kept_and_told_from_nothing(bench, shape, levels):
    """None is an answer in memory and on servers; `peek` tells it from a key that nobody stored."""
    load = Shaped(bench.cache(*levels), shape, lambda _number: None)
    key, nothing = load.key(), object()
    assert await load.cache.peek(key, nothing) is nothing
    assert [await load() for _ in range(3)] == [None] * 3
    assert load.runs == 1
    assert await load.cache.peek(key, nothing) is None
    if levels:
        other = Shaped(bench.cache(*levels), shape, lambda _number: "called")
        assert await other() is None


@pytest.mark.parametrize("levels", [(), ("l2",)])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_loader_that_calls_itself_is_told_at_once(bench, shape, levels):
    """It would wait for its own end: an error says so instead, and the next call is free to succeed."""
    is_wrong = [True]

    def act(number: int) -> object:
        return load._call(number) if is_wrong[0] else "fine"

    load = Shaped(bench.cache(*levels), shape, act)
    with pytest.raises(RecursiveLoadError):
        await asyncio.wait_for(load(), 5)
    is_wrong[0] = False
    assert await load() == "fine"


def test_a_loop_that_ends_leaves_nobody_waiting(cache):
    """When the loop of a load ends before the load, a thread's own loop that waited for it loads for itself."""
    begun, runs = threading.Event(), []

    @cache.cached(60)
    async def load() -> int:
        runs.append(1)
        if len(runs) == 1:
            begun.set()
            await asyncio.sleep(60)
        return len(runs)

    async def leave() -> None:
        task = asyncio.ensure_future(load())
        await asyncio.to_thread(follower.start)
        await asyncio.sleep(0.05)
        assert not task.done()  # asyncio.run cancels it on its way out

    results = []
    follower = threading.Thread(target=lambda: begun.wait(5) and results.append(asyncio.run(load())))
    asyncio.run(leave())
    follower.join(10)
    assert results == [2]


# --- entries that do not open ------------------------------------------------------------------------------------


async def loaded(bench, shape, level: str, **options) -> list[Shaped]:
    """Have two results stored on a level, and return a process that has nothing in memory."""
    first = Shaped(bench.cache(level, **options), shape, lambda number: f"stored {number}")
    for number in (1, 2):
        await first(number)
    return Shaped(bench.cache(level, **options), shape, lambda number: f"loaded {number}")


def corrupt(load: Shaped, level: str) -> float:
    facts = {(fact.name, fact.labels): fact.value for fact in load.cache.host.facts}
    return facts.get(("smw_cache_errors_total", (("level", level), ("kind", "corrupt"))), 0)


def flip(data: dict) -> None:
    for key, (blob, ends) in data.items():
        data[key] = blob[:-1] + bytes((blob[-1] ^ 1,)), ends


def move(data: dict) -> None:
    one, two = data
    data[one], data[two] = data[two], data[one]


@pytest.mark.parametrize("level", ["l2", "l3"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reason", ["checksum", "seal"])
@pytest.mark.parametrize("change", [flip, move])
async def test_an_entry_that_was_changed_or_moved_is_a_miss_and_told(bench, shape, level, reason, change):
    """The function answers, the miss is counted, and a signal names level and failed check; then it is stored again."""
    options = {"encryption_keys": KEYS} if reason == "seal" else {}
    load = await loaded(bench, shape, level, **options)
    change(bench.stores[level].data)
    assert [await load(1), await load(2)] == ["loaded 1", "loaded 2"]
    assert load.cache.recorded.of(CacheTampered) == [CacheTampered(level, reason)] * 2
    assert corrupt(load, level) == 2
    again = Shaped(bench.cache(level, **options), shape, lambda _number: "called")
    assert await again(1) == "loaded 1"
    assert again.cache.recorded.of(CacheTampered) == []


@pytest.mark.parametrize("level", ["l2", "l3"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_an_entry_of_a_retired_key_is_a_miss(bench, shape, level):
    """What a key has sealed that is not in the ring any more is loaded again; that is no attack, and no signal."""
    ring = {"k2": b"2" * 32, "k1": b"1" * 32}
    load = await loaded(bench, shape, level, encryption_keys=ring)
    without = Shaped(bench.cache(level, encryption_keys=KEYS), shape, lambda number: f"loaded {number}")
    assert await without(1) == "loaded 1"
    assert without.cache.recorded.of(CacheTampered) == []
    assert corrupt(without, level) == 1
    assert await load(1) == "loaded 1"
    assert load.runs == 0


@pytest.mark.parametrize("level", ["l2", "l3"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("blob", [b"", b"\0", b"\x80\x04K\x01.", b"\xa5m\x02", b"\xa5m\xff" + bytes(60), bytes(2000)])
async def test_an_entry_that_does_not_open_is_a_counted_miss(bench, shape, level, blob):
    """Bytes of others are a counted miss, not an exception and no attack."""
    load = await loaded(bench, shape, level)
    data = bench.stores[level].data
    for key, (_, ends) in data.items():
        data[key] = blob, ends
    assert await load(1) == "loaded 1"
    assert corrupt(load, level) == 1
    assert load.cache.recorded.of(CacheTampered) == []


def test_tampering_is_logged_once_a_minute(bench, caplog):
    """Every entry that was changed is a signal; one a minute and level is logged."""
    cache = bench.cache()
    hear, logged = Tampering(cache.host), []
    for seconds, level in ((0, "l2"), (59, "l2"), (0, "l3"), (2, "l2")):
        bench.clock.advance(seconds)
        hear(level, "seal")
        hear(level, "header")
        logged.append([record.cache_level for record in caplog.records if record.name == "smw.cache"])
    assert logged == [["l2"], ["l2"], ["l2", "l3"], ["l2", "l3", "l2"]]
    assert len(cache.recorded.of(CacheTampered)) == 4
