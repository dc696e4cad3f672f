"""What several processes see of each other through the servers behind memory: filling, invalidating, trusting."""

from __future__ import annotations

import asyncio

import pytest

from smw import cache as cache_module
from smw._kernel.signals import CacheUncached
from smw.cache.coherence.bookmark import Reading


class Source:
    """The origin: a value that changes, and a count of how often it was read."""

    def __init__(self) -> None:
        self.value = "old"
        self.reads = 0

    def __cache_key__(self) -> str:
        return "the source"

    def read(self) -> str:
        self.reads += 1
        return self.value


def loader(cache, source, ttl=60, **options):
    """Decorate the same function in a cache, as another process would."""

    def load(user_id: int) -> dict:
        return {"user": user_id, "value": source.read()}

    return cache.cached(ttl, tags=["user", "user:{user_id}"], **options)(load)


@pytest.mark.parametrize("levels", [("l2",), ("l3",), ("l2", "l3")])
def test_what_one_process_loaded_another_finds(bench, levels):
    """The second process does not run the function."""
    source = Source()
    here, there = (loader(bench.cache(*levels), source) for _ in range(2))
    assert here(1) == there(1) == there(1)
    assert source.reads == 1
    assert cache_module.info(there).hits[levels[0]] == 1
    assert cache_module.info(there).hits["l1"] == 1


def test_slower_level_fills_faster_ones(bench):
    """What only memcached still has comes back into Redis and memory with the time that it has left."""
    source = Source()
    loader(bench.cache("l2", "l3"), source)(1)
    bench.stores["l2"].data.clear()
    bench.clock.advance(20)
    load = loader(bench.cache("l2", "l3"), source)
    assert load(1)["value"] == "old"
    assert cache_module.info(load).hits["l3"] == 1
    ((_, ends),) = bench.stores["l2"].data.values()
    assert ends - bench.clock.now() == pytest.approx(40, abs=0.1)
    bench.clock.advance(40.1)
    load(1)
    assert source.reads == 2


@pytest.mark.parametrize("levels", [(), ("l2",), ("l3",), ("l2", "l3")])
@pytest.mark.parametrize("what", ["tag", "filled tag", "key"])
def test_after_a_drop_nobody_here_sees_the_old_value(bench, levels, what):
    """Once the drop has returned every level is passed by, in the same process and in a new one."""
    source = Source()
    cache = bench.cache(*levels)
    load = loader(cache, source)
    load(1)
    source.value = "new"
    drops = {
        "tag": {"tags": ["user"]},
        "filled tag": {"tags": ["user:1"]},
        "key": {"keys": [cache_module.key_for(load, 1)]},
    }
    cache.drop_sync(**drops[what])
    assert load(1)["value"] == "new"
    assert loader(bench.cache(*levels), source)(1)["value"] == "new"


def test_a_drop_of_another_user_leaves_the_entry(bench):
    """Only what carries the tag is loaded again."""
    source = Source()
    cache = bench.cache("l2")
    load = loader(cache, source)
    load(1)
    cache.drop_sync(tags=["user:2"])
    load(1)
    assert source.reads == 1


@pytest.mark.parametrize("levels", [("l2",), ("l3",), ("l2", "l3")])
def test_others_follow_within_their_trust(bench, levels):
    """Another process hands out what it has in memory for at most the trust time, then asks and loads again."""
    source = Source()
    here, there = bench.cache(*levels), bench.cache(*levels)
    load_here, load_there = loader(here, source), loader(there, source)
    load_here(1)
    load_there(1)
    source.value = "new"
    here.drop_sync(tags=["user:1"])
    bench.clock.advance(1.01)
    assert load_there(1)["value"] == "new"


def test_trust_is_renewed_without_loading(bench):
    """An entry that the server confirms is handed out further, for one question in each trust time."""
    source = Source()
    load = loader(bench.cache("l2"), source)
    load(1)
    bench.stores["l2"].asked.clear()
    for _ in range(5):
        bench.clock.advance(1.01)
        for _ in range(10):
            load(1)
    assert source.reads == 1
    assert bench.stores["l2"].asked == ["read"] * 5


def test_value_loaded_before_a_drop_is_not_stored(bench):
    """A drop in this process during a load keeps the old value out of every level."""
    cache = bench.cache("l2", "l3")
    source = Source()

    def load(user_id: int) -> str:
        value = source.read()
        if source.reads == 1:
            source.value = "new"
            cache.drop_sync(tags=["user"])
        return value

    load = cache.cached(60, tags=["user"], key=lambda user_id: user_id)(load)
    assert load(1) == "old"
    assert load(1) == "new"


def test_value_loaded_before_a_drop_elsewhere_is_not_stored(bench):
    """A drop in another process during a load keeps the old value out of every level here too."""
    here, there = bench.cache("l2", "l3"), bench.cache("l2", "l3")
    source = Source()

    def load(user_id: int) -> str:
        value = source.read()
        if source.reads == 1:
            source.value = "new"
            there.drop_sync(tags=["user"])
        return value

    load = here.cached(60, tags=["user"], key=lambda user_id: user_id)(load)
    assert load(1) == "old"
    assert load(1) == "new"


async def test_caller_after_a_drop_does_not_join_an_older_load(bench):
    """A call that begins after the drop has returned never gets the result of a load that began before it."""
    cache = bench.cache("l2")
    source, begun, gate = Source(), asyncio.Event(), asyncio.Event()

    @cache.cached(60, tags=["user"], key=lambda user_id: user_id)
    async def load(user_id: int) -> str:
        value = source.read()
        begun.set()
        if source.reads == 1:
            await gate.wait()
        return value

    early = asyncio.ensure_future(load(1))
    await begun.wait()
    source.value = "new"
    await cache.drop(tags=["user"])
    assert await load(1) == "new"
    gate.set()
    assert await early == "old"
    assert await load(1) == "new"


def test_invalidate_drops_after_success_alone(bench):
    """`invalidate` drops what its arguments name once the function has returned, and nothing when it fails."""
    cache = bench.cache("l2")
    source = Source()
    load = loader(cache, source)

    @cache.invalidate(tags=["user:{user_id}"])
    def rename(user_id: int, name: str) -> str:
        if not name:
            raise ValueError(name)
        source.value = name
        return name

    load(1)
    with pytest.raises(ValueError):
        rename(1, "")
    load(1)
    assert source.reads == 1
    assert rename(1, "new") == "new"
    assert load(1)["value"] == "new"


async def test_invalidate_on_coroutines(bench):
    """The same for coroutine functions."""
    cache = bench.cache("l2")
    source = Source()
    load = loader(cache, source)

    @cache.invalidate(tags=["user"])
    async def rename(name: str) -> None:
        source.value = name

    load(1)
    await rename("new")
    assert load(1)["value"] == "new"


def test_levels_are_chosen_per_function(bench):
    """A function keeps results only where it says."""
    cache = bench.cache("l2", "l3")
    source = Source()
    loader(cache, source, levels=("l1",))(1)
    assert not bench.stores["l2"].data
    assert not bench.stores["l3"].data
    loader(cache, source, levels=("l1", "l3"))(2)
    assert not bench.stores["l2"].data
    assert len(bench.stores["l3"].data) == 1
    load = loader(cache, source, levels=("l2",))
    load(3)
    load(3)
    assert len(bench.stores["l2"].data) == 1
    assert cache_module.info(load).entries == 0


def test_dropped_tag_reaches_a_function_that_skips_the_authority(bench):
    """A function kept in memcached alone still follows drops, whose generations are in Redis."""
    source = Source()
    cache = bench.cache("l2", "l3")
    load = loader(cache, source, levels=("l3",))
    load(1)
    source.value = "new"
    bench.cache("l2", "l3").drop_sync(tags=["user"])
    assert load(1)["value"] == "new"


def test_methods_without_identity_stay_in_memory(bench, caplog):
    """An instance without identity shares nothing through servers, and one warning names the remedy."""
    cache = bench.cache("l2")

    class Service:
        @cache.cached(60)
        def load(self, number: int) -> int:
            return number

    for _ in range(3):
        assert Service().load(1) == 1
    assert not bench.stores["l2"].data
    assert caplog.text.count("__cache_key__") == 1


def test_result_without_exact_bytes_stays_in_memory(bench):
    """A result that would come back as something else is kept in memory alone, counted and signalled."""

    class Text(str):
        __slots__ = ()

    cache = bench.cache("l2")
    load = cache.cached(60, key=lambda: "one")(lambda: Text("a"))
    assert type(load()) is type(load()) is Text
    assert not bench.stores["l2"].data
    assert [signal.reason for signal in cache.recorded.of(CacheUncached)] == ["unstorable-result"]


def test_foreign_bytes_are_a_counted_miss(bench):
    """Bytes that are not ours are a miss, are counted, and are overwritten."""
    source = Source()
    loader(bench.cache("l2"), source)(1)
    store = bench.stores["l2"]
    (key,) = store.data
    store.data[key] = b"\x80garbage" * 5, store.data[key][1]
    cache = bench.cache("l2")
    assert loader(cache, source)(1)["value"] == "old"
    assert source.reads == 2
    facts = {(fact.name, fact.labels): fact.value for fact in cache.host.facts}
    assert facts["smw_cache_errors_total", (("level", "l2"), ("kind", "corrupt"))] == 1
    loader(bench.cache("l2"), source)(1)
    assert source.reads == 2


def test_lost_generations_are_a_miss_and_never_come_back(bench):
    """When a server forgets its counters nothing stored before passes for valid."""
    source = Source()
    loader(bench.cache("l2"), source)(1)
    bench.stores["l2"].counters.clear()
    source.value = "new"
    assert loader(bench.cache("l2"), source)(1)["value"] == "new"


def test_a_key_drop_is_never_forgotten(bench):
    """An entry of another process that slept through a drop by key is not taken for valid, however late it asks."""
    source = Source()
    here, there = bench.cache("l2", l1_trust_ms=1000), bench.cache("l2")
    load_here, load_there = loader(here, source, ttl=7 * 86_400), loader(there, source, ttl=7 * 86_400)
    load_there(1)
    source.value = "new"
    here.drop_sync(keys=[cache_module.key_for(load_here, 1)])
    store = bench.stores["l2"]
    for name in [name for name in store.counters if ":f:" in name]:
        del store.counters[name]  # evicted, or after its time
    bench.clock.advance(86_000)
    assert load_there(1)["value"] == "new"


@pytest.mark.parametrize("levels", [("l1",), ("l1", "l3")])
def test_memory_alone_follows_drops_elsewhere(bench, levels):
    """A function kept in memory alone asks the authority, once in each trust time, and is not loaded again for it."""
    source = Source()
    here, there = bench.cache("l2", "l3"), bench.cache("l2", "l3")
    load = loader(there, source, levels=levels)
    for _ in range(3):
        load(1)
        bench.clock.advance(1.01)
    assert source.reads == 1
    source.value = "new"
    here.drop_sync(tags=["user:1"])
    bench.clock.advance(1.01)
    assert load(1)["value"] == "new"


def test_trust_counts_from_the_question(bench):
    """An answer that took its time does not prolong the trust: the drop may be older than its arrival."""
    source = Source()
    here, there = bench.cache("l2"), bench.cache("l2")
    load = loader(there, source)
    load(1)
    bench.clock.advance(1.01)
    store, read = bench.stores["l2"], bench.stores["l2"].read

    async def slowly(*args, **more):
        found = await read(*args, **more)
        source.value = "new"
        here.drop_sync(tags=["user:1"])
        bench.clock.advance(0.6)
        store.read = read
        return found

    store.read = slowly
    assert load(1)["value"] == "old"
    bench.clock.advance(0.6)
    assert load(1)["value"] == "new"


def test_slow_load_without_bytes_is_not_trusted_from_its_end(bench):
    """A result that no server compares is asked about at once when it took longer to load than memory is trusted."""

    class Text(str):
        __slots__ = ()

    here, there = bench.cache("l2"), bench.cache("l2")
    values = ["old", "new"]

    @there.cached(60, tags=["user"], key=lambda: "one")
    def load() -> str:
        value = Text(values.pop(0))
        if value == "old":
            here.drop_sync(tags=["user"])
            bench.clock.advance(1.5)
        return value

    assert load() == "old"
    assert load() == "new"


async def test_caller_after_a_drop_elsewhere_does_not_join_an_older_load(bench):
    """A call that sees that something was dropped elsewhere does not wait for a load that began before."""
    here, there = bench.cache("l2"), bench.cache("l2")
    source, begun, gate = Source(), asyncio.Event(), asyncio.Event()

    @here.cached(60, tags=["user"], key=lambda user_id: user_id)
    async def load(user_id: int) -> str:
        value = source.read()
        begun.set()
        if source.reads == 1:
            await gate.wait()
        return value

    early = asyncio.ensure_future(load(1))
    await begun.wait()
    joined = asyncio.ensure_future(load(1))
    await asyncio.sleep(0.01)
    assert source.reads == 1
    source.value = "new"
    await there.drop(tags=["user"])
    assert await asyncio.gather(load(1), load(1)) == ["new", "new"]
    assert source.reads == 2
    gate.set()
    assert "old" in (await early, await joined)
    assert await load(1) == "new"


def test_nothing_is_taken_from_a_server_while_a_drop_is_under_way(bench, monkeypatch):
    """A thread that reads between the steps of a drop keeps nothing that the drop is about."""
    source = Source()
    cache = bench.cache("l2", "l3")
    load = loader(cache, source)
    load(1)
    source.value = "new"
    drop_here = cache._engine.drop_here

    def held_up(scopes):
        drop_here(scopes)
        load(1)

    monkeypatch.setattr(cache._engine, "drop_here", held_up)
    cache.drop_sync(tags=["user:1"])
    assert load(1)["value"] == "new"


@pytest.mark.parametrize("by", ["tag", "key"])
def test_a_server_that_forgot_a_drop_is_not_believed(bench, by):
    """A server restarted from an older snapshot brings back values; this process does not take what it has dropped."""
    source = Source()
    cache = bench.cache("l2")
    load = loader(cache, source)
    load(1)
    store = bench.stores["l2"]
    values, counters = dict(store.data), dict(store.counters)
    source.value = "new"
    bench.clock.advance(1)
    cache.drop_sync(**({"tags": ["user:1"]} if by == "tag" else {"keys": [cache_module.key_for(load, 1)]}))
    store.data.clear()
    store.data.update(values)
    store.counters.update(counters)
    assert load(1)["value"] == "new"


def test_an_entry_that_is_dropped_while_it_is_looked_at_is_no_answer(bench):
    """What another thread drops between the look at the table and the look at the entry is not handed out."""
    cache = bench.cache("l2")

    @cache.cached(60, key=lambda number: number)
    def read(number: int) -> int:
        return number

    read(1)
    (entry,) = cache.engine.memory.held(cache_module.key_for(read, 1))
    reading = Reading(cache.engine, frozenset([b"0" * 8]))
    bench.clock.advance(30)  # memory would have to ask whether it still stands
    cache.clear_sync()
    assert not cache.engine._is_current(entry, bench.clock.now())
    assert reading.bars(cache.engine, entry)
