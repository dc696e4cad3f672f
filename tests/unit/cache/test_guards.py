"""Single conditions that keep old values out and loads few, each of which something would break without."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.cache.test_levels import Source, loader
from tests.unit.cache.test_outage import fail


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
