"""A server that another one has taken the place of may have lost what it acknowledged: nothing of it is believed."""

from __future__ import annotations

import pytest

from smw.cache.levels.level import run_blocking
from tests.unit.cache.test_levels import Source, loader


@pytest.fixture
def level(bench):
    """The level of a cache whose debt is paid by hand."""
    level = bench.cache("l2")._engine.remote.servers[0]
    level.wake = lambda: None
    return level


def test_nothing_is_taken_until_everything_was_dropped(bench, level):
    """Values of before are loaded again, here and in other processes; later ones are kept."""
    here, there = bench.caches[0], bench.cache("l2")
    source = Source()
    load, other = loader(here, source, levels=("l2",)), loader(there, source, levels=("l2",))
    load(1)
    source.value = "new"
    level.distrust()
    assert load(1)["value"] == "new"
    assert other(1)["value"] == "old"
    level.pay()
    assert other(1)["value"] == "new"
    reads = source.reads
    assert load(1)["value"] == "new"
    assert source.reads == reads


def test_an_answer_that_was_on_its_way_is_not_taken_either(bench, level, monkeypatch):
    """What comes while it turns out that another server answers counts as no answer."""
    source = Source()
    load = loader(bench.caches[0], source, levels=("l2",))
    load(1)
    source.value = "new"
    read = level.store.read

    async def read_and_move(*args, **more):
        found = await read(*args, **more)
        level.distrust()
        return found

    monkeypatch.setattr(level.store, "read", read_and_move)
    assert load(1)["value"] == "new"


def test_a_value_of_a_load_that_began_before_is_not_kept(bench, level):
    """What another process stores after the change, loaded before it, goes with everything else."""
    source = Source()
    load = loader(bench.caches[0], source, levels=("l2",))
    load(1)
    key = next(iter(level.store.data))
    kept = level.store.data[key]
    level.distrust()
    level.pay()
    level.store.data[key] = kept
    source.value = "new"
    assert load(1)["value"] == "new"
    assert run_blocking(level.store.read(key, [], mode="sync", timeout_s=1.0)).blob != kept[0]
