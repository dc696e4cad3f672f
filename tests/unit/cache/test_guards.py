"""Single conditions that keep old values out and loads few, each of which something would break without."""

from __future__ import annotations

import asyncio

import pytest

from smw import cache as cache_module
from smw._kernel.guard import FAILURES
from smw.cache.coherence.debt import Debt
from smw.cache.naming.names import fence_of
from smw.cache.ports import StoreFailedError
from tests.unit.cache.test_levels import Source, loader
from tests.unit.cache.test_outage import fail, heal
from tests.unit.cache.test_writes import Users


@pytest.mark.parametrize(("took_s", "is_kept"), [(29.0, True), (31.0, False)])
def test_what_took_long_to_load_is_not_put_where_a_tombstone_may_be_gone(bench, took_s, is_kept):
    """A memcached forgets that a key was dropped: with Redis away nothing else tells that a load began before."""
    source, here, there = Source(), bench.cache("l2", "l3"), bench.cache("l2", "l3")
    slower = bench.stores["l3"]
    slower.is_atomic = False
    fail(bench, levels=("l2",))

    def load(user_id: int) -> str:
        value = source.read()
        if not slower.data:
            source.value = "new"
            there.drop_sync(tags=["user"])
            bench.clock.advance(took_s)
        return value

    assert here.cached(60, tags=["user"], key=lambda user_id: user_id)(load)(1) == "old"
    assert bool(slower.data) is is_kept


def test_what_was_stored_before_a_drop_elsewhere_was_heard_is_judged_by_its_counters(bench):
    """News may be late: the server, and not the moment of hearing, tells that a value is newer than the drop."""
    source, here, there = Source(), bench.cache("l2"), bench.cache("l2")
    there.drop_sync(tags=["user:1"])
    loader(there, source)(1)
    bench.clock.advance(1)
    here.engine.heard([here._names.tag("user:1")])
    assert loader(here, source)(1)["value"] == "old"
    assert source.reads == 1


async def test_who_looked_before_the_counters_were_opened_waits_for_the_load(bench):
    """The answer shows none of the counters that the leader has opened meanwhile, which is no drop: one load does."""
    cache, source = bench.cache("l2"), Source()
    store, loads, goes_on = bench.stores["l2"], asyncio.Event(), asyncio.Event()
    read, open_ = store.read, store.open
    gates = {name: (asyncio.Event(), asyncio.Event()) for name in ("open", "read")}

    async def held_up(name: str) -> None:
        reached, opens = gates[name]
        reached.set()
        await opens.wait()

    async def opening(*args, **how):
        await held_up("open")
        return await open_(*args, **how)

    async def reading(*args, **how):
        found = await read(*args, **how)
        store.read = read
        await held_up("read")
        return found

    @cache.cached(60, tags=["user"], key=lambda user_id: user_id)
    async def load(user_id: int) -> str:
        loads.set()
        await goes_on.wait()
        return source.read()

    store.open = opening
    leader = asyncio.ensure_future(load(1))
    await gates["open"][0].wait()
    store.read = reading
    other = asyncio.ensure_future(load(1))
    await gates["read"][0].wait()
    gates["open"][1].set()
    await loads.wait()
    gates["read"][1].set()
    await asyncio.sleep(0.01)
    goes_on.set()
    assert await asyncio.gather(leader, other) == ["old", "old"]
    assert source.reads == 1


def page_of(cache, source):
    """Decorate a page and the part that it is made from, as every process does."""

    @cache.cached(600, tags=["part"], key=lambda: 1)
    def part() -> str:
        return source.read()

    @cache.cached(600, depends="auto", key=lambda: 2)
    def page() -> str:
        return part()

    return page


def unpaid(cache, number: int = 0):
    """Return a server of a cache that is told again only by the test what it has not acknowledged."""
    level = cache.engine.remote.servers[number]
    level.wake = lambda: None
    return level


def test_an_answer_of_before_a_drop_that_was_paid_meanwhile_is_not_taken(bench):
    """Nobody asks a server that owes: the debt may be gone by the time the answer is there, where no number tells."""
    cache, source = bench.cache("l2"), Source()
    load, level, store = loader(cache, source), unpaid(cache), bench.stores["l2"]
    read, drop = store.read, store.drop

    async def paid_meanwhile(*args, **how):
        found = await read(*args, **how)
        if level.debt:
            level.pay()
        return found

    async def without_numbers(*args, **how):
        await drop(*args, **how)

    store.drop = without_numbers
    load(1)
    fail(bench)
    source.value = "new"
    cache.drop_sync(tags=["user"])
    heal(bench)
    store.read = paid_meanwhile
    assert load(1)["value"] == "new"


def test_an_answer_of_a_slower_level_that_comes_to_owe_meanwhile_is_not_taken(bench):
    """Another server may have given it than the one that was told what to drop."""
    cache, source = bench.cache("l2", "l3"), Source()
    load, level = loader(cache, source), unpaid(cache, 1)
    load(1)
    source.value = "new"
    cache.engine.memory.clear()
    bench.stores["l2"].data.clear()
    read = bench.stores["l3"].read

    async def reading(*args, **how):
        found = await read(*args, **how)
        level.distrust()
        return found

    bench.stores["l3"].read = reading
    assert load(1)["value"] == "new"


def test_a_page_is_not_taken_while_a_server_owes_the_drop_of_a_part(bench):
    """Its own key and tags are not dropped, and the counters of the part stand until the server is told."""
    cache, source = bench.cache("l2"), Source()
    page, _ = page_of(cache, source), unpaid(cache)
    page()
    fail(bench)
    source.value = "new"
    cache.drop_sync(tags=["part"])
    heal(bench)
    assert page() == "new"


@pytest.mark.parametrize("is_heard", [False, True])
def test_a_young_page_of_l3_is_not_taken_after_a_part_was_dropped(bench, is_heard):
    """While Redis is away only what was heard before tells that a part was dropped."""
    source, here, there = Source(), bench.cache("l2", "l3"), bench.cache("l2", "l3")
    page_of(there, source)()
    loader(here, source)(1)
    source.value = "new"
    if is_heard:
        here.engine.heard([here._names.tag("part")])
    fail(bench, levels=("l2",))
    assert page_of(here, source)() == ("new" if is_heard else "old")


def test_a_page_whose_parts_nobody_vouches_for_is_not_taken(bench):
    """A server that shows the page and then does not tell of its parts has not vouched for it, however young it is."""
    source, here, there = Source(), bench.cache("l2"), bench.cache("l2")
    page_of(there, source)()
    source.value = "new"
    there.drop_sync(tags=["part"])
    store = bench.stores["l2"]
    read = store.read

    async def reading(key, *args, **how):
        if key.endswith("~"):
            raise StoreFailedError("timeout")
        return await read(key, *args, **how)

    store.read = reading
    assert page_of(here, source)() == "new"


def test_a_page_of_a_server_that_forgot_the_drop_of_a_part_is_not_taken(bench):
    """Set back to an older state it shows counters under which the page would stand."""
    cache, source = bench.cache("l2"), Source()
    page, store = page_of(cache, source), bench.stores["l2"]
    page()
    values, counters = dict(store.data), dict(store.counters)
    source.value = "new"
    bench.clock.advance(1)
    cache.drop_sync(tags=["part"])
    store.data.update(values)
    store.counters.update(counters)
    assert page() == "new"


def test_a_counter_that_is_missing_confirms_nothing(bench):
    """A key whose counter was evicted can be dropped without leaving a trace in it, however often memory asks."""
    source, here, there = Source(), bench.cache("l2"), bench.cache("l2")
    load, filled = loader(here, source), loader(there, source)
    filled(1)
    key = cache_module.key_for(load, 1)
    del bench.stores["l2"].counters[fence_of(key)]
    assert load(1)["value"] == "old"
    source.value = "new"
    there.drop_sync(keys=[key])
    bench.clock.advance(1.01)
    assert load(1)["value"] == "new"


def test_what_was_dropped_here_during_its_load_is_not_sent_where_no_counter_is_compared(bench):
    """With Redis away a memcached knows no tag, and would hand the old value to other processes as a young one."""
    cache, source = bench.cache("l2", "l3"), Source()
    fail(bench, levels=("l2",))

    @cache.cached(60, tags=["user"], key=lambda: 1)
    def load() -> str:
        value = source.read()
        cache.drop_sync(tags=["user"])
        return value

    assert load() == "old"
    assert not bench.stores["l3"].data


async def test_a_drop_that_is_cut_off_at_one_server_is_paid_at_the_others(bench, monkeypatch):
    """A cancelled drop has told some servers only; nobody comes back to tell the rest but who pays debts."""
    cache = bench.cache("l2", "l3")
    later, woken = unpaid(cache, 1), []
    later.wake = lambda: woken.append(1)

    async def cut_off(*args, **how):
        raise asyncio.CancelledError

    key = cache_module.key_for(loader(cache, Source()), 1)
    with monkeypatch.context() as cut:
        cut.setattr(unpaid(cache).store, "drop", cut_off)
        with pytest.raises(asyncio.CancelledError):
            await cache.drop(keys=[key])
    assert later.debt
    assert woken


async def test_a_value_that_another_writer_has_overtaken_is_not_kept(bench):
    """Who learns that another has written meanwhile keeps nothing, not even for as long as memory is trusted."""
    names = {1: "Ada"}
    one, two = (Users(bench.cache("l2", "l3"), names=names) for _ in range(2))
    await one.read(1)
    one.losing = lambda: (setattr(one, "losing", lambda: None), two.put(1, "Bob"))
    assert one.put(1, "Eve") == {"name": "Eve"}
    assert names[1] == await one.read(1) == "Bob"


async def test_a_value_that_could_not_be_put_in_place_is_owed_as_a_drop(bench):
    """The server has not answered: what it holds is old from now on, and it is told so as soon as it answers."""
    users, woken = Users(bench.cache("l2")), []
    level = unpaid(users.cache)
    await users.read(1)
    level.wake = lambda: woken.append(1)
    users.losing = lambda: fail(bench)
    assert users.put(1, "Eve") == {"name": "Eve"}
    assert level.debt
    assert woken


async def test_a_server_that_forgot_what_was_put_in_place_is_not_believed(bench):
    """Set back to an older state it shows the value that was there before."""
    users, store = Users(bench.cache("l2")), bench.stores["l2"]
    await users.read(1)
    values, counters = dict(store.data), dict(store.counters)
    bench.clock.advance(1)
    users.put(1, "Eve")
    users.cache.engine.memory.clear()
    store.data.update(values)
    store.counters.update(counters)
    assert await users.read(1) == "Eve"


def test_a_server_that_is_back_is_paid_before_anybody_is_let_through(bench):
    """The probe that closes the breaker has it drop what it may have forgotten, and all that it is owed."""
    cache, greeted = bench.cache("l2"), []
    level, store = unpaid(cache), bench.stores["l2"]
    level.greet = lambda: greeted.append(level.breaker.is_open)
    fail(bench)
    for _ in range(FAILURES):
        level.breaker.failed("timeout")
    cache.drop_sync(tags=["user"])
    assert level.debt
    heal(bench)
    store.asked.clear()
    level.breaker.probe_now()
    assert store.asked == ["probe", "drop"]
    assert greeted == [True]
    assert not level.debt
    assert not level.breaker.is_open


def test_what_is_owed_again_is_owed_after_the_first_was_acknowledged():
    """An acknowledgement is for what was owed when the server was told, and everything owed covers whatever it is."""
    debt = Debt("everything")
    debt.add(["tag"], ["key"])
    told = debt.batch()
    debt.add(["tag"], [])
    debt.settle(told)
    assert debt.names() == (("tag",), ())
    assert not debt.covers(["other"])
    debt.add(["everything"], [])
    assert debt.covers(["other"])


def test_what_has_expired_at_the_first_server_is_loaded_although_it_may_stand_in(bench):
    """A value that is kept for when a load fails is none that answers a call whose load would succeed."""
    source, here, there = Source(), bench.cache("l2"), bench.cache("l2")
    load, fill = (loader(cache, source, ttl=10, stale_if_error=60) for cache in (here, there))
    fill(1)
    bench.clock.advance(11)
    load(2)
    source.value = "new"
    assert load(1)["value"] == "new"


def test_what_a_signal_handler_owes_within_a_drop_is_struck_with_the_batch_that_paid_it():
    """Its number is later than that of the drop that it interrupted, which is the last one noted."""
    debt = Debt("*")
    numbers = debt._numbers

    class Interrupted:
        def __next__(self) -> int:
            number = next(numbers)
            debt._numbers = numbers
            debt.add(["handler"], ["key"])
            return number

    debt._numbers = Interrupted()
    debt.add(["outer"], [])
    debt.settle(debt.batch())
    assert debt.names() == ((), ())
