"""Processes and a server whose clocks differ: what was promised of drops and of ages holds all the same."""

from __future__ import annotations

import asyncio
import copy
import itertools

import pytest

from smw._kernel.host import Host
from smw.cache import Cache
from smw.cache.coherence.debt import Owed
from smw.cache.coherence.receipts import MARGIN_S, MOST, Receipts
from smw.cache.coherence.servertime import LASTS_S, ServerTime
from smw.cache.ports import StoreFailedError
from smw.cache.stores.local import LocalStore
from smw.testing import FakeClock, SeededEntropy, faults

SKEWS = (-3600.0, -90.0, 33.0, 90.0, 3600.0)
BOTH = ("l2", "l3")
NUMBERS = itertools.count()


class Fleet:
    """Processes with clocks of their own, and two servers that go by another one."""

    def __init__(self, name: str) -> None:
        self.clock = FakeClock()
        self.clocks = [self.clock]
        self.urls = {"l2_host": f"memory://{name}-2", "l3_servers": [f"memory://{name}-3"]}
        self.servers = [LocalStore(url, clock=self.clock) for url in (f"memory://{name}-2", f"memory://{name}-3")]
        self.source, self.loads = "old", 0
        self.caches: list[Cache] = []

    def process(self, skew: float):
        """Return a process whose wall clock is ahead by so much."""
        clock = FakeClock(wall=self.clock.wall() + skew)
        clock.advance(self.clock.now() - clock.now())
        clock.step_wall(self.clock.wall() + skew - clock.wall())
        self.clocks.append(clock)
        made = Cache({"namespace": "n", **self.urls}, host=Host("s", "testing", clock, SeededEntropy()))
        made.clock = clock
        self.caches.append(made)
        return made

    def advance(self, seconds: float) -> None:
        for clock in self.clocks:
            clock.advance(seconds)


def cached(fleet: Fleet, cache: Cache, *, ttl: float = 3600, levels: tuple[str, ...] = BOTH, stale: float = 0):
    """Return the cached function in one process."""

    def load(x: int) -> str:
        fleet.loads += 1
        if not fleet.source:
            raise OSError
        return fleet.source

    return cache.cached(ttl, key=lambda x: x, tags=["t"], levels=levels, stale_if_error=stale)(load)


def mute(cache: Cache) -> None:
    """Have the server that keeps the counters not tell this process what time it is."""

    async def time(*, mode: str, timeout_s: float) -> float:
        raise StoreFailedError("refused", counts=False)

    cache.engine.remote.servers[0].store.time = time


@pytest.fixture
def fleet():
    made = Fleet(f"clocks{next(NUMBERS)}")
    yield made
    for each in made.caches:
        each.close()


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize("skewed", ["writer", "dropper"])
def test_nothing_dropped_comes_back_whatever_the_clocks_show(fleet, skew, skewed):
    """What a process has dropped it does not take from memcached when Redis is away, by whatever clock it is dated."""
    here, there = (fleet.process(skew if skewed == who else 0.0) for who in ("dropper", "writer"))
    get, fill = cached(fleet, here), cached(fleet, there)
    fill(1)
    fleet.advance(5)
    fleet.source = "new"
    here.drop_sync(tags=["t"])
    for pause in (61, 20, 20, 40):
        fleet.advance(pause)
        with faults.down("l2", cache=here):
            assert get(1) == "new"


@pytest.mark.parametrize("skew", SKEWS)
def test_what_was_dropped_elsewhere_is_young_by_the_clock_of_the_server(fleet, skew):
    """Where nobody tells of drops, a value counts for thirty seconds from when it was stored, in every process."""
    writer, reader = fleet.process(skew), fleet.process(-skew)
    fill, get = cached(fleet, writer), cached(fleet, reader)
    get(2)
    fill(1)
    fleet.advance(29)
    with faults.down("l2", cache=reader):
        fleet.source = "new"
        assert get(1) == "old"
        fleet.advance(2)
        assert get(1) == "new"


@pytest.mark.parametrize("step", [-3600.0, -1.5, 3600.0])
def test_a_clock_that_is_set_costs_no_reloads(fleet, step):
    """After a drop, and its own clock being set, a process takes what was stored since; nothing that is older."""
    here, there = fleet.process(0.0), fleet.process(0.0)
    get, fill = cached(fleet, here, levels=("l2",)), cached(fleet, there, levels=("l2",))
    get(1)
    fleet.source = "new"
    here.drop_sync(tags=["t"])
    here.clock.step_wall(step)
    loads = fleet.loads
    fill(1)
    assert [get(1) for _ in range(5)] == ["new"] * 5
    assert fleet.loads == loads + 1


@pytest.mark.parametrize("skew", SKEWS)
def test_times_to_live_are_judged_by_the_clock_of_the_server(fleet, skew):
    """A reader whose clock is wrong takes a value that lives, and keeps it no longer than it does."""
    fill, get = (
        cached(fleet, fleet.process(0.0), ttl=60),
        cached(fleet, fleet.process(skew), ttl=60, levels=("l1", "l2")),
    )
    fill(1)
    fleet.source = "new"
    fleet.advance(50)
    assert get(1) == "old"
    fleet.advance(8)
    assert get(1) == "old"
    fleet.advance(3)
    assert get(1) == "new"


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_is_set_does_not_change_times_to_live(fleet, step):
    """The clock of the reader is set between two answers: its server is asked anew."""
    fill, reader = cached(fleet, fleet.process(0.0), ttl=60), fleet.process(0.0)
    get = cached(fleet, reader, ttl=60, levels=("l1", "l2"))
    fill(1)
    get(2)
    fleet.source = "new"
    fleet.advance(50)
    reader.clock.step_wall(step)
    assert get(1) == "old"
    fleet.advance(11)
    assert get(1) == "new"


def test_a_value_from_the_future_is_not_taken(fleet):
    """The server's clock is set back: what seems to be stored later than now is loaded anew, once, and counted."""
    cache = fleet.process(0.0)
    get = cached(fleet, cache, levels=("l2",))
    get(1)
    fleet.clock.step_wall(-60)
    fleet.advance(LASTS_S + 1)
    get(2)
    fleet.clock.step_wall(-3600)
    fleet.advance(LASTS_S + 1)
    loads = fleet.loads
    assert [get(2) for _ in range(3)] == ["old"] * 3
    assert fleet.loads == loads + 1
    assert cache.engine.remote.servers[0].errors["early"] == 1


@pytest.mark.parametrize("skew", SKEWS)
def test_processes_that_start_without_the_server_share_what_they_store_meanwhile(fleet, skew):
    """They do not know its time: they take nothing of before, and memcached ends in thirty seconds what they store."""
    cached(fleet, fleet.process(0.0))(1)
    fleet.source = "new"
    fresh = [fleet.process(each) for each in (0.0, skew)]
    first, second = (cached(fleet, cache, ttl=100_000) for cache in fresh)
    with faults.down("l2", cache=fresh[0]), faults.down("l2", cache=fresh[1]):
        assert first(1) == "new"
        fleet.source = "newest"
        assert second(1) == "new"
        fleet.advance(31)
        assert second(1) == "newest"


def test_a_server_that_forgot_a_drop_is_seen_through(fleet):
    """Set back to an older state it hands out old values, which who dropped them does not take; newer ones count."""
    cache = fleet.process(0.0)
    get, held = cached(fleet, cache, levels=("l2",)), fleet.servers[0]
    get(1)
    values, counters = copy.copy(held.data), copy.copy(held.counters)
    fleet.advance(60)
    fleet.source = "new"
    cache.drop_sync(tags=["t"])
    held.data.update(values)
    held.counters.update(counters)
    assert get(1) == "new"
    fleet.advance(MARGIN_S + 1)
    held.data.update(values)
    loads = fleet.loads
    assert [get(1) for _ in range(3)] == ["new"] * 3
    assert fleet.loads == loads + 1


@pytest.mark.parametrize("skew", SKEWS)
def test_what_was_put_in_place_is_taken(fleet, skew):
    """A value that was written through is read back in the process that wrote it, whatever its clock shows."""
    cache = fleet.process(skew)
    get = cached(fleet, cache, levels=("l2",))
    get(1)

    @cache.writes(get, strategy="write_through", value=lambda result, _arguments: result)
    def change(x: int) -> str:
        fleet.source = "new"
        return "new"

    fleet.advance(10)
    change(1)
    loads = fleet.loads
    fleet.advance(1)
    assert [get(1) for _ in range(3)] == ["new"] * 3
    assert fleet.loads == loads


@pytest.mark.parametrize("skew", SKEWS)
def test_a_token_matters_whatever_the_clocks_show(fleet, skew):
    """Who reads after a drop sees nothing older in a process whose clock differs from that of the one that dropped."""
    here, there = fleet.process(0.0), fleet.process(skew)
    get = cached(fleet, there, levels=("l1", "l2"))
    get(1)
    cached(fleet, here)(2)
    fleet.source = "new"
    token = here.drop_sync(tags=["t"])
    assert get(1) == "old"
    with there.reading_after(token):
        assert get(1) == "new"


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize("tells", [True, False])
def test_a_token_of_a_process_that_has_only_dropped_matters(fleet, skew, tells):
    """It has read nothing, so it asks what time it is; where that is not answered its token matters at any time."""
    here, there = fleet.process(skew), fleet.process(0.0)
    get = cached(fleet, there, levels=("l1", "l2"))
    get(1)
    if not tells:
        mute(here)
    fleet.source = "new"
    token = here.drop_sync(tags=["t"])
    assert here.engine.remote.time.is_known is tells
    assert get(1) == "old"
    with there.reading_after(token):
        assert get(1) == "new"


def test_a_drop_that_is_not_acknowledged_asks_for_no_time(fleet):
    """The server has just failed to answer: its token is undated, and costs the caller no second wait."""
    here, there = fleet.process(-3600.0), fleet.process(0.0)
    get = cached(fleet, there, levels=("l1", "l2"))
    get(1)
    fleet.source = "new"
    with faults.hang("l2", cache=here):
        token = here.drop_sync(tags=["t"])
        assert here.engine.remote.servers[0].errors == {"timeout": 1}
    assert get(1) == "old"
    with there.reading_after(token):
        assert get(1) == "new"


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize("levels", [("l2",), ("l1", "l2")])
def test_what_may_stand_in_for_an_error_is_not_fresh_while_nobody_knows_the_time(fleet, skew, levels):
    """Servers keep it beyond its time to live, so one that cannot be dated stands in for an error and for no load."""
    cached(fleet, fleet.process(0.0), ttl=60, stale=7200)(1)
    fleet.advance(100)
    reader = fleet.process(skew)
    mute(reader)
    get = cached(fleet, reader, ttl=60, levels=levels, stale=7200)
    fleet.source = ""
    assert get(1) == "old"
    fleet.advance(2)
    fleet.source = "new"
    assert [get(1) for _ in range(2)] == ["new"] * 2


@pytest.mark.parametrize("skew", SKEWS)
def test_what_is_shared_without_the_server_is_fresh_for_its_time_to_live_at_most(fleet, skew):
    """memcached ends in thirty seconds what is stored meanwhile: by then one that lives as long cannot have expired."""
    fresh = [fleet.process(each) for each in (0.0, skew)]
    with faults.down("l2", cache=fresh[0]), faults.down("l2", cache=fresh[1]):
        for ttl, after in ((10, "new"), (100_000, "old")):
            fleet.source = "old"
            first, second = (cached(fleet, cache, ttl=ttl, stale=7200) for cache in fresh)
            first(ttl)
            fleet.source = "new"
            fleet.advance(11)
            assert second(ttl) == after


@pytest.mark.parametrize("skew", SKEWS)
async def test_who_comes_while_the_time_is_asked_for_judges_nothing_by_another(fleet, skew):
    """The answer is on its way: whoever needs it waits for it, and takes no value by the process's own clock before."""
    callers = range(5)

    def function(cache: Cache):
        @cache.cached(60, key=lambda x: x, tags=["t"], levels=("l2",), stale_if_error=7200)
        async def load(x: int) -> str:
            return fleet.source

        return load

    fill, cache = function(fleet.process(0.0)), fleet.process(skew)
    await asyncio.gather(*map(fill, callers))
    fleet.advance(100)
    fleet.source = "new"
    store, tells = cache.engine.remote.servers[0].store, asyncio.Event()
    ask = store.time

    async def time(**given) -> float:
        await tells.wait()
        return await ask(**given)

    store.time = time
    calls = [asyncio.create_task(call) for call in map(function(cache), callers)]
    for _ in range(100):
        await asyncio.sleep(0)
    early = [call.result() for call in calls if call.done()]
    tells.set()
    assert (early, await asyncio.gather(*calls)) == ([], ["new"] * 5)


async def test_all_who_come_while_the_time_is_asked_for_ask_once(fleet):
    """A hundred cold coroutines are one question, and go on in one tick; one that is cancelled takes nobody along."""
    cache, callers = fleet.process(0.0), range(100)
    store, asked, tells = cache.engine.remote.servers[0].store, [], asyncio.Event()
    ask, begun, seen = store.time, [], []

    async def time(**given) -> float:
        asked.append(1)
        await tells.wait()
        return await ask(**given)

    store.time = time

    @cache.cached(60, key=lambda x: x, levels=("l2",))
    async def load(x: int) -> int:
        begun.append(x)
        await asyncio.sleep(0)
        seen.append(len(begun))
        return x

    calls = [asyncio.create_task(load(x)) for x in callers]
    for _ in range(20):
        await asyncio.sleep(0)
    for number in (0, 50):
        calls[number].cancel()
    await asyncio.sleep(0)
    tells.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [x for x in found if isinstance(x, int)] == [x for x in callers if x not in (0, 50)]
    assert len(asked) == 1
    assert seen == [98] * 98
    assert len(fleet.servers[0].data) == 98


def test_a_server_that_does_not_tell_the_time_is_asked_once_a_second(fleet):
    """Not every call waits for what does not come."""
    cache = fleet.process(0.0)
    get = cached(fleet, cache, levels=("l2",))
    mute(cache)
    for number in range(10):
        get(number)
    assert cache.engine.remote.servers[0].errors == {"refused": 1}
    fleet.advance(1.1)
    get(1)
    assert cache.engine.remote.servers[0].errors == {"refused": 2}


@pytest.mark.parametrize("skew", SKEWS)
def test_nothing_is_put_in_place_while_nobody_knows_the_time(fleet, skew):
    """What a writer could not date is dropped instead, so that nobody takes it for older or younger than it is."""
    cached(fleet, fleet.process(0.0))(1)
    cache = fleet.process(skew)
    mute(cache)
    get = cached(fleet, cache, levels=("l2",))

    @cache.writes(get, strategy="write_through", value=lambda result, _arguments: result)
    def change(x: int) -> str:
        fleet.source = "new"
        return "new"

    change(1)
    assert not fleet.servers[0].data
    assert get(1) == "new"


async def test_who_is_prepared_knows_the_time(fleet):
    """No call has to ask for it first."""
    cache = fleet.process(-3600.0)
    await cache.aprepare()
    assert cache.engine.remote.time.is_known


def test_many_drops_are_remembered_in_little_room():
    """Of more drops than are remembered one by one, the oldest count for everything that is older than they."""
    clock = FakeClock(now=0.0)
    receipts = Receipts(clock)
    receipts.note(Owed(["first"], [], 1), [7])
    clock.advance(100)
    for number in range(MOST):
        receipts.note(Owed([f"t{number}"], [], number), [100 + number])
    assert len(receipts) <= MOST
    assert receipts.outdates(["other"], [10**9], 50.0)
    assert not receipts.outdates(["other"], [1], 100.0 + 2 * MARGIN_S)
    assert receipts.outdates([f"t{MOST - 1}"], [50], 100.0 + MARGIN_S / 2)
    assert not receipts.outdates([f"t{MOST - 1}"], [10**6], 101.0 + MARGIN_S)


def test_an_answer_that_came_late_tells_no_time():
    """What took longer than half a second says too little of the moment in which it was given."""
    clock = FakeClock()
    time = ServerTime(clock, is_told=True)
    time.learned(5_000.0, asked=clock.now() - 1, told=clock.now())
    assert (time.now(), time.is_known) == (clock.wall(), False)
    time.learned(5_000.0, asked=clock.now() - 0.2, told=clock.now())
    assert (time.now(), time.is_known) == (pytest.approx(5_000.1), True)
    clock.advance(7)
    assert time.now() == pytest.approx(5_007.1)
    clock.step_wall(3_600)
    assert (time.now(), time.is_known) == (clock.wall(), False)


def test_answers_that_agree_do_not_move_time():
    """A moment keeps its place while the server contradicts nothing."""
    clock = FakeClock()
    time = ServerTime(clock, is_told=True)
    time.learned(5_000.0, asked=clock.now() - 0.2, told=clock.now())
    before = time.now()
    time.learned(5_000.05, asked=clock.now() - 0.1, told=clock.now())
    assert time.now() == before
    time.learned(5_001.0, asked=clock.now() - 0.1, told=clock.now())
    assert time.now() == pytest.approx(5_001.05)
