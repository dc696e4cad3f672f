"""warm="fleet": a process that starts has in memory what the others ask for most, and nothing else."""

from __future__ import annotations

import gc
import logging

import pytest

from smw import cache
from smw._kernel.host import Host
from smw._kernel.signals import CacheWarmed, CacheWarming
from smw.cache import Cache, FleetWarmed
from smw.cache.functions.readers import cached_in
from smw.cache.levels.level import Level
from smw.cache.levels.remote import Remote, Tier
from smw.cache.warming.heat import COUNTED
from smw.cache.warming.hot import LONGEST, hot_of, member_of
from smw.errors import ConfigError, DecorationError
from smw.testing import FakeClock, SeededEntropy, isolated
from tests.contract.local_store import LocalStore

KEYS = {"encryption_keys": {"a": b"k" * 32}}


def shop_of(cache_, **options):
    """Return what every process of the shop decorates: a plain function, one with tags, a method, one with key=."""
    calls = []
    told = {"ttl": 60, "warm": "fleet", "version": "shop"} | options

    class Shelf:
        def __init__(self, name):
            self.name = name

        def __cache_key__(self):
            return self.name

        @cache_.cached(**told | {"key": lambda self, sku: (self.name, sku)})
        def has(self, sku: str) -> bool:
            calls.append(sku)
            return True

    @cache_.cached(**told | {"key": lambda sku: sku})
    def price(sku: str) -> dict:
        calls.append(sku)
        return {"sku": sku, "at": [1, 2]}

    @cache_.cached(**told | {"tags": ["sku:{sku}"], "key": lambda sku: sku})
    def stock(sku: str) -> int:
        calls.append(sku)
        return len(sku)

    price.calls = calls
    return price, stock, Shelf


class Fleet:
    """Processes of one service: caches that share a server and tell it of their heat when they close."""

    def __init__(self, bench):
        self.bench = bench

    def hot(self, *skus, options=None, **settings):
        """Run a process that asks for these, the first ones most often, and end it."""
        made = self.bench.cache("l2", **settings)
        price, stock, shelf = shop_of(made, **options or {})
        for sku in skus:
            price(sku), stock(sku), shelf("a").has(sku)
        for number in range(len(skus)):
            for sku in skus[: len(skus) - number]:
                price(sku), stock(sku), shelf("a").has(sku)
            made._warmth._heat.sample()
        made.close()

    def start(self, *, options=None, **settings):
        """Return a process that has just started, warm."""
        made = self.bench.cache("l2", **settings)
        price, stock, shelf = shop_of(made, **options or {})
        return made, price, stock, shelf, made.warm_fleet_sync()


@pytest.fixture
def fleet(bench):
    return Fleet(bench)


@pytest.mark.parametrize("settings", [{}, KEYS], ids=["plain", "sealed"])
def test_the_first_calls_of_a_process_are_answered_by_memory(fleet, settings):
    """What another process was asked for is there before the first call: no load, no question to the server."""
    fleet.hot("tea", "mug", **settings)
    made, price, stock, shelf, done = fleet.start(**settings)
    assert (done.kept, done.skipped, done.ended) == (6, 0, "")
    store = made.engine.remote.servers[0].store
    store.asked.clear()
    assert price("tea") == {"sku": "tea", "at": [1, 2]}
    assert (stock("mug"), shelf("a").has("tea")) == (3, True)
    assert (price.calls, store.asked) == ([], [])
    assert cache.info(price).hits["l1"] == 1
    assert (cache.info(price).warmed, cache.info(price).entries) == (2, 2)


async def test_a_process_may_start_warm_without_blocking(fleet):
    """The same from within an event loop."""
    fleet.hot("tea")
    made = fleet.bench.cache("l2")
    price, *_ = shop_of(made)
    assert (await made.warm_fleet()).kept == 3
    assert (price("tea")["sku"], price.calls) == ("tea", [])


def test_calls_that_the_compiled_entry_answers_find_what_came_before_them(monkeypatch):
    """A function without key= looks by its arguments, which nobody has told: its first call moves the entry there."""
    clock = FakeClock()
    options = {"l2_url": "memory://fleet-gear", "namespace": "shop", "warm": "fleet"}
    with isolated(clock=clock, cache=options) as first:
        assert [geared("a"), geared("a"), geared("b"), geared("b")] == [1, 1, 1, 1]
        first.cache._warmth._heat.sample()
        server = first.cache.engine.remote.servers[0].store  # it lasts as long as somebody holds it
        first.cache.close()
        with isolated(clock=clock, cache=options) as second:
            assert second.cache.warm_fleet_sync().kept == 2
            server.read = None  # nobody may ask
            RUNS.clear()
            assert [geared("a"), geared("a"), geared("b")] == [1, 1, 1]
            assert (RUNS, cache.info(geared).hits["l1"], cache.info(geared).misses["l1"]) == ([], 3, 0)


RUNS: list[str] = []


@cache.cached(ttl=60)
def geared(sku: str) -> int:
    """A function of the module, as most are; it takes part because the cache is set so."""
    RUNS.append(sku)
    return len(sku)


def test_what_was_dropped_is_never_served(fleet):
    """A key, a tag and everything: none of it comes back by a warm-up, and the rest does."""
    fleet.hot("tea", "mug", "pot")
    made = fleet.bench.cache("l2")
    price, stock, _ = shop_of(made)
    made.drop_sync(tags=["sku:tea"], keys=[cache.key_for(price, "mug")])
    done = made.warm_fleet_sync()
    assert (done.kept, done.skipped) == (7, 2)
    stock("tea"), price("mug")
    assert price.calls == ["tea", "mug"]
    made.clear_sync()
    assert made.warm_fleet_sync().kept == 0
    stock("pot")
    assert price.calls[2:] == ["pot"]


@pytest.mark.parametrize("how", ["here", "elsewhere"])
def test_a_drop_while_memory_is_being_filled_dooms_what_was_read(fleet, monkeypatch, how):
    """What is dropped between the answer of the server and memory is not kept."""
    fleet.hot("tea")
    made = fleet.bench.cache("l2")
    _price, stock, _ = shop_of(made)
    read = LocalStore.read_many

    async def then_dropped(self, *args, **more):
        found = await read(self, *args, **more)
        made.engine.drop_here(scopes) if how == "here" else made.engine.heard(scopes)
        return found

    scopes = cache.key_for(stock, "tea").scopes[2:]  # its own tag
    monkeypatch.setattr(LocalStore, "read_many", then_dropped)
    assert made.warm_fleet_sync().kept == 2
    assert cache.info(stock).entries == 0


def test_a_drop_after_the_warm_up_reaches_what_nobody_has_asked_for_yet(fleet):
    """Entries from before their first call can be dropped as all others: by key, by tag, here and as heard."""
    fleet.hot("tea", "mug", "pot")
    made, price, stock, _, _ = fleet.start()
    made.drop_sync(tags=["sku:tea"], keys=[cache.key_for(price, "mug")])
    made.engine.heard([cache.key_for(price, "pot")])
    assert (cache.info(price).entries, cache.info(stock).entries) == (1, 2)
    stock("tea"), stock("mug"), price("tea")
    assert price.calls == ["tea"]


def test_a_value_lives_no_longer_than_it_would_have(fleet):
    """Life, the longest time in memory, and the life of negative results are those of any read."""
    fleet.hot("tea")
    fleet.bench.clock.advance(50)
    made, price, *_ = fleet.start(options={"l1_ttl": 5})
    assert cache.info(price).warmed == 1
    fleet.bench.clock.advance(6)
    made.engine.remote.servers[0].store.asked.clear()
    assert price("tea")
    assert "read" in made.engine.remote.servers[0].store.asked  # memory may keep it for 5 seconds alone
    fleet.bench.clock.advance(5)
    price("tea")
    assert price.calls == ["tea"]
    assert fleet.start()[-1].kept == 1  # the others have expired


def test_the_hottest_come_first_and_no_more_than_asked_for(fleet):
    """`warm_keys` bounds what a process starts with; what was asked for in more seconds wins."""
    fleet.hot("a", "b", "c", "d", options={"levels": ("l1", "l2")})
    _, price, stock, shelf, done = fleet.start(warm_keys=3)
    assert done.kept == 3
    price("a"), stock("a"), shelf("a").has("a"), price("d")
    assert [cache.info(fn).hits["l1"] for fn in (price, stock, shelf.has)] == [1, 1, 1]
    assert cache.info(price).hits["l2"] == 1


def test_memory_is_not_filled_beyond_half_of_its_bytes(fleet, monkeypatch):
    """Neither a value nor all of them together may take more than half of `l1_bytes`; the size is asked for first."""
    fleet.hot("tea", "mug", "pot")
    _, _price, _, _, done = fleet.start(l1_bytes=150)
    assert done.kept == 0
    store = fleet.bench.stores["l2"]
    key = next(key for key in store.data if len(store.data[key][0]) > 50)
    store.data[key] = b"x" * 2**20, store.data[key][1]
    read = []
    original = LocalStore.read_many

    async def noted(self, reads, **more):
        read.extend(name for name, _ in reads)
        return await original(self, reads, **more)

    monkeypatch.setattr(LocalStore, "read_many", noted)
    done = fleet.start(l1_bytes=2**20)[-1]
    assert (done.kept, done.skipped) == (8, 1)
    assert key not in read


def test_functions_that_are_not_known_are_left_out(fleet):
    """Keys of another version, and of functions that this process does not have, are not even read."""
    fleet.hot("tea")
    made, _price, _, _, done = fleet.start(options={"version": "next"})
    assert done == FleetWarmed(took_s=done.took_s)
    assert "read_many" not in made.engine.remote.servers[0].store.asked


def test_a_function_takes_part_only_if_it_is_to(fleet):
    """The setting is for all, the option for one; without either nothing is counted, told or read."""
    fleet.hot("tea", options={"warm": None})
    assert fleet.bench.stores["l2"]._contents.heat == {}
    fleet.hot("tea", options={"warm": "off"}, warm="fleet")
    assert fleet.bench.stores["l2"]._contents.heat == {}
    fleet.hot("tea", options={"warm": None}, warm="fleet")
    assert fleet.start(options={"warm": None})[-1].kept == 0
    assert fleet.start(options={"warm": None}, warm="fleet")[-1].kept == 3


def test_hits_are_counted_by_the_second_and_leave_eviction_alone(fleet):
    """A mark that was counted stays one for eviction, and the next hit is counted again."""
    made = fleet.bench.cache("l2")
    price, *_ = shop_of(made)
    heat = made._warmth._heat
    price("tea")
    heat.sample()
    assert heat.taken() == []  # a load is no hit
    for _ in range(3):
        price("tea"), price("tea")
        heat.sample()
        heat.sample()
    entry = made.engine.memory.held(cache.key_for(price, "tea"))[0]
    assert entry.touched == COUNTED
    assert [count for _, _, count in heat.taken()] == [3]


def test_a_large_memory_is_counted_some_at_a_time(fleet, monkeypatch):
    """No round looks at more than a bounded number of entries, and within a few rounds each has had its turn."""
    monkeypatch.setattr("smw.cache.warming.heat._MOST_LOOKED_AT", 10)
    made = fleet.bench.cache("l2")
    price, *_ = shop_of(made)
    for _ in range(2):
        for number in range(35):
            price(str(number))
    heat = made._warmth._heat
    heat.sample()
    assert 0 < len(heat._counts) <= 10
    for _ in range(3):
        heat.sample()
    assert len(heat.taken()) == 35


def test_what_is_told_names_no_argument(fleet):
    """Other processes are told of digests, keyed where there is a secret, and of the namespace by the list's name."""
    fleet.hot("tea", **KEYS)
    ((name, heat),) = fleet.bench.stores["l2"]._contents.heat.items()
    assert name == "smw:shop:hot"
    assert all(set(member) <= set("0123456789abcdef ") for member in heat)
    keys = {key[-32:] for key in fleet.bench.stores["l2"].data}
    assert {member.split(" ")[1] for member in heat} == keys


@pytest.mark.parametrize(
    "member",
    [
        "",
        "x",
        "0" * 16,
        "0" * 16 + " " + "0" * 31,
        "0" * 16 + " smw:other:" + "0" * 32,
        "0" * 16 + " " + "0" * 32 + "\n",
    ],
)
def test_a_member_of_another_shape_is_nobodys(member):
    """Whoever writes to the list can name keys of this namespace alone."""
    assert hot_of(member, "smw:shop:") is None


def test_a_member_is_read_as_it_was_written():
    """Mark, key and tags survive."""
    tags = ("smw:shop:t:*", "smw:shop:t:" + "b" * 32)
    member = member_of("c" * 16, "smw:shop:" + "a" * 32, tags)
    assert hot_of(member, "smw:shop:") == ("c" * 16, "smw:shop:" + "a" * 32, tags)
    assert len(member) <= LONGEST


def test_a_forged_list_cannot_make_a_result_undroppable(fleet):
    """An entry under another tag than its call has is not handed out, even if its counter shows the same number."""
    fleet.hot("tea")
    store = fleet.bench.stores["l2"]
    heat = store._contents.heat["smw:shop:hot"]
    member = next(member for member in heat if member.count(" ") == 2)
    forged = member.rpartition(" ")[0] + " " + "0" * 32
    store.counters["smw:shop:t:" + "0" * 32] = store.counters["smw:shop:t:" + member[-32:]]
    heat[forged] = heat.pop(member)
    made, price, stock, _, done = fleet.start()
    assert (done.kept, cache.info(stock).warmed) == (3, 1)
    made.drop_sync(tags=["sku:tea"])
    assert stock("tea") == 3
    assert price.calls == ["tea"]


def test_what_servers_do_not_know_is_not_told(fleet):
    """A result that was loaded while Redis was away is in this memory alone."""
    from smw.cache.ports import StoreFailedError

    made = fleet.bench.cache("l2")
    price, *_ = shop_of(made)
    fleet.bench.stores["l2"].failing = StoreFailedError("timeout", counts=False)
    price("tea"), price("tea")
    made._warmth._heat.sample()
    assert made._warmth._heat.taken() == []


@pytest.mark.parametrize("blob", [b"", b"\x00", b"x" * 100, b"\xa5m" + b"\xff" * 60])
@pytest.mark.parametrize("settings", [{}, KEYS], ids=["plain", "sealed"])
def test_forged_values_are_not_kept(fleet, blob, settings):
    """What does not open is a miss, as in any read."""
    fleet.hot("tea", **settings)
    store = fleet.bench.stores["l2"]
    for key, (_, ends) in list(store.data.items()):
        store.data[key] = blob, ends
    _, price, _, _, done = fleet.start(**settings)
    assert (done.kept, done.skipped) == (0, 3)
    price("tea")
    assert price.calls == ["tea"]


def test_a_newer_result_is_not_replaced(fleet):
    """What memory has already stays, also where it came while the warm-up was under way."""
    fleet.hot("tea")
    made = fleet.bench.cache("l2")
    price, *_ = shop_of(made)
    price("tea")
    assert (made.warm_fleet_sync().kept, cache.info(price).entries) == (2, 1)
    newer = made.engine.memory.held(cache.key_for(price, "tea"))[0]
    newer.terms.expires = 0.0  # for the warm-up there is none
    assert made.warm_fleet_sync().kept == 1
    newer.terms.expires = newer.deadline
    price("tea")
    advice, target = cached_in(price)
    placing = made.function(target, advice).placing
    assert (placing.warmed, list(placing.texts.values())) == ({}, [newer])


def test_eviction_takes_what_was_warmed_up_for_asked_for(fleet):
    """Newcomers do not push out what the fleet asks for most before anybody could."""
    fleet.hot("tea", "mug")
    _made, price, *_ = fleet.start(l1_size=10)
    for number in range(10):
        price(str(number))
    price("tea"), price("mug")
    assert cache.info(price).hits["l1"] == 2


def test_a_server_that_does_not_answer_ends_it(fleet):
    """Nothing is raised, and it says so."""
    from smw.cache.ports import StoreFailedError

    fleet.hot("tea")
    fleet.bench.stores["l2"].failing = StoreFailedError("timeout")
    _made, price, _, _, done = fleet.start()
    assert (done.kept, done.ended) == (0, "away")
    assert price("tea")


def test_a_server_that_dies_on_the_way_ends_it_with_what_there_is(fleet, monkeypatch):
    """The keys are there and the values do not come: halved once or twice, then given up."""
    from smw.cache.ports import StoreFailedError

    async def slow(_self, _reads, **_more):
        raise StoreFailedError("timeout")

    fleet.hot("tea", "mug")
    monkeypatch.setattr(LocalStore, "read_many", slow)
    assert fleet.start()[-1].ended == "away"


def test_one_of_several_servers_takes_its_own_keys_along(bench, monkeypatch):
    """A sick node of a cluster costs the start what lies there, and no more."""
    from smw.cache.ports import StoreFailedError

    stores = [LocalStore(bench.clock), LocalStore(bench.clock)]

    def process():
        def remote_of(_settings, host, *, fence, envelope, everything):
            levels = [Level("l2", store, host, timeout_s=0.05, everything=everything) for store in stores]
            tier = Tier("l2", tuple(levels), lambda key: levels[int(key[-1], 16) % 2])
            return Remote([tier], envelope=envelope, fence=fence, clock=host.clock, caps_s={})

        bench.cache("l2")  # its way to build levels gives place to the one above
        monkeypatch.setattr("smw.cache.part.remote_of", remote_of)
        made = Cache(host=Host("shop", "testing", bench.clock, SeededEntropy()))
        bench.caches.append(made)
        return made, shop_of(made)[0]

    made, price = process()
    for sku in "abcdefgh":
        price(sku), price(sku)
    made.close()
    shares = [len(store.data) for store in stores]
    assert min(shares) > 0
    made, price = process()
    stores[0].failing = StoreFailedError("timeout")
    done = made.warm_fleet_sync()
    assert (done.kept, done.ended) == (shares[1], "away")
    assert stores[0].asked[-3:] == ["hottest"] * 3
    stores[0].failing = None


def test_the_deadline_ends_it(fleet, monkeypatch):
    """What was read by then is kept."""
    original = LocalStore.read_many

    async def slow(self, reads, **more):
        fleet.bench.clock.advance(0.04)
        return await original(self, reads, **more)

    fleet.hot(*map(str, range(30)))
    monkeypatch.setattr("smw.cache.warming.warmup._AT_ONCE", 10)
    monkeypatch.setattr(LocalStore, "read_many", slow)
    done = fleet.start(warm_timeout_s=0.1)[-1]
    assert (done.kept, done.ended) == (20, "deadline")


def test_it_is_seen(fleet, caplog):
    """Signals for who waits for readiness, a record, metrics, and the result itself."""
    fleet.hot("tea")
    with caplog.at_level(logging.INFO, "smw.cache"):
        made, *_, done = fleet.start()
    assert made.recorded.of(CacheWarming) == [CacheWarming()]
    assert made.recorded.of(CacheWarmed) == [CacheWarmed(3, done.took_s, "")]
    record = next(record for record in caplog.records if "the fleet asks for most" in record.getMessage())
    assert (record.levelname, record.component, record.cache_level) == ("INFO", "cache_middleware", "l1")
    facts = {(fact.name, fact.labels): fact.value for fact in made.host.facts}
    assert facts["smw_cache_warm_up_seconds", ()] == done.took_s
    assert [value for (name, _), value in facts.items() if name == "smw_cache_warmed_total"] == [1, 1, 1]


def test_a_process_starts_warm_once(fleet):
    """`prepare` does so for the functions that it has not done it for; `warm_fleet` whenever it is called."""
    fleet.hot("tea")
    made = fleet.bench.cache("l2")
    price, *_ = shop_of(made)
    made.prepare()
    assert cache.info(price).warmed == 1
    made.engine.memory.clear()
    made.prepare()
    assert cache.info(price).warmed == 1
    assert made.warm_fleet_sync().kept == 3


@pytest.mark.parametrize("levels", [(), ("l3",)])
def test_without_redis_there_is_nothing_to_start_with(bench, caplog, levels):
    """Neither memory alone nor memcached alone has a list; it is said once, and asking is harmless."""
    made = bench.cache(*levels, warm="fleet")
    assert [record.getMessage().rpartition("; ")[2] for record in caplog.records] == ["set CACHE_L2_URL"]
    shop_of(made)[0]("tea")
    assert made.warm_fleet_sync() == FleetWarmed()


def test_wrong_options_are_refused():
    """The error names the option and the fix."""
    for told in (
        {"warm": "flet"},
        {"warm": True},
        {"warm": "fleet", "levels": ("l1",)},
        {"warm": "fleet", "levels": ["l2"]},
    ):
        with pytest.raises(DecorationError, match=r"SMW-C174(.|\n)*fix:"):
            cache.cached(ttl=60, **told)
    with pytest.raises(ConfigError, match="CACHE_WARM"):
        Cache(warm="flet")
    with pytest.raises(ConfigError, match="CACHE_WARM_TIMEOUT_S"):
        Cache(warm_timeout_s=0)


def test_functions_that_are_gone_are_forgotten():
    """The list of decorated functions keeps none of them alive."""
    from smw.cache.functions.advice import DECORATED

    gc.collect()
    before = len(DECORATED)

    @cache.cached(ttl=60)
    def short_lived() -> int:
        return 1

    assert len(DECORATED) == before + 1
    del short_lived
    gc.collect()
    assert len(DECORATED) == before


def test_tools_and_get_many_find_what_came_before_its_first_call(fleet):
    """What was warmed up can be asked for in every way, with no question to the server for a value."""
    fleet.hot("tea", "mug")
    made, price, *_ = fleet.start()
    store = made.engine.remote.servers[0].store
    store.asked.clear()
    key = cache.key_for(price, "tea")
    assert made.peek_sync(key) == {"sku": "tea", "at": [1, 2]}
    assert made.why_sync(key).served_by == "l1"
    store.asked.clear()
    assert [found["sku"] for found in cache.get_many_sync(price, ["mug", "tea"])] == ["mug", "tea"]
    assert (price.calls, store.asked) == ([], [])


@pytest.mark.parametrize("dropped", ["before", "after"])
def test_a_result_goes_with_what_it_was_made_from(bench, dropped):
    """depends="auto": what was dropped below is not brought back above, nor does it stay there."""

    def process():
        made = bench.cache("l2", warm="fleet")

        @made.cached(60, tags=["source"], key=lambda: "inner")
        def inner() -> int:
            return 1

        @made.cached(60, depends="auto", key=lambda: "outer")
        def outer() -> int:
            return inner() + 1

        return made, inner, outer

    made, inner, outer = process()
    assert [outer(), outer(), inner(), inner()] == [2, 2, 1, 1]
    made._warmth._heat.sample()
    made.close()
    made, inner, outer = process()
    if dropped == "before":
        made.drop_sync(tags=["source"])
    assert made.warm_fleet_sync().kept == (0 if dropped == "before" else 2)
    if dropped == "after":
        made.drop_sync(tags=["source"])
    assert [cache.info(fn).entries for fn in (inner, outer)] == [0, 0]


def test_the_thread_tells_in_between(fleet, monkeypatch):
    """Not only at the end: a process that runs on is heard of too, at its own times."""
    made = fleet.bench.cache("l2")
    price, *_ = shop_of(made)
    telling = made._warmth._telling
    monkeypatch.setattr(telling, "start", lambda: None)
    price("tea"), price("tea")
    telling.beat()
    telling.beat()
    assert fleet.bench.stores["l2"]._contents.heat == {}
    fleet.bench.clock.advance(30)
    telling.beat()
    assert len(fleet.bench.stores["l2"]._contents.heat["smw:shop:hot"]) == 1
