"""What the cache's settings mean: sizes, encryption, pickles, names."""

from __future__ import annotations

import logging
import sys
import types

import pytest

from smw import cache as cache_module
from smw._kernel.host import Host
from smw.cache import Cache
from smw.errors import ConfigError
from smw.settings import CacheSettings, MonitorSettings, SecuritySettings, build
from tests.unit.cache.test_levels import Source, loader

KEYS = {"k1": b"1" * 32}


def blobs(bench) -> list[bytes]:
    return [blob for store in bench.stores.values() for blob, _ in store.data.values()]


def test_values_are_sealed_where_there_is_a_key(bench):
    """With a key nothing readable reaches a server, and another process with the key reads it."""
    source = Source()
    source.value = "secret" * 10
    loader(bench.cache("l2", encryption_keys=KEYS, compression=False), source)(1)
    assert blobs(bench)
    assert all(b"secret" not in blob for blob in blobs(bench))
    assert loader(bench.cache("l2", encryption_keys=KEYS), source)(1)["value"] == source.value
    assert source.reads == 1


def test_encryption_without_a_key():
    """Production refuses to start; development warns and uses a key of its own."""
    with pytest.raises(ConfigError, match="encryption"):
        Cache(encryption=True, host=Host(profile="production"))
    Cache(encryption=True)


@pytest.mark.parametrize(
    ("model", "name"),
    [(CacheSettings, "state_dir"), (MonitorSettings, "workers_dir"), (SecuritySettings, "trail_dir")],
)
def test_folders_are_paths_of_whoever_runs_the_process(model, name, monkeypatch, tmp_path):
    """``~`` is a home, which no folder of that name stands in for, and what can be no path is refused at the start."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert getattr(build(model, None, {name: "~/state"}), name) == tmp_path / "state"
    for wrong in ("a\0b", "~nobody-of-that-name/state"):
        with pytest.raises(ConfigError, match=name):
            build(model, None, {name: wrong})


def test_process_key_is_announced(caplog):
    """The key that nobody else knows is named in a warning."""
    with caplog.at_level(logging.WARNING, "smw.cache"):
        Cache(encryption=True)
    assert "only this process" in caplog.text


def test_pickles_need_encryption(bench):
    """Pickles are refused without a seal, and with one they store what no other form takes."""
    with pytest.raises(ConfigError, match="allow_pickle"):
        Cache(allow_pickle=True)
    cache = bench.cache("l2", allow_pickle=True, encryption_keys=KEYS)

    def load() -> ValueError:
        return ValueError("kept")

    cache.cached(60)(load)()
    again = bench.cache("l2", allow_pickle=True, encryption_keys=KEYS).cached(60)(load)
    assert again().args == ("kept",)
    assert len(blobs(bench)) == 1


def test_large_values_are_compressed(bench):
    """A compressible value takes less than its size, unless compression is off."""
    source = Source()
    source.value = "a" * 10_000
    loader(bench.cache("l2"), source)(1)
    assert max(map(len, blobs(bench))) < 500
    loader(bench.cache("l2", compression=False), source)(2)
    assert max(map(len, blobs(bench))) > 10_000


def test_namespaces_keep_services_apart(bench):
    """Two services with the same functions on one server share nothing."""
    source = Source()
    loads = [loader(bench.cache("l2", namespace=name), source) for name in ("shop", "bank")]
    assert len({cache_module.key_for(load, 1) for load in loads}) == 2
    for load in loads:
        load(1)
    assert source.reads == 2


def test_memory_can_be_off(bench):
    """With no entries in memory every call asks the servers."""
    source = Source()
    load = loader(bench.cache("l2", l1_size=0), source)
    for _ in range(3):
        load(1)
    assert source.reads == 1
    assert cache_module.info(load).hits == {"l2": 2}


def test_longest_times_per_level(bench):
    """`l1_ttl` shortens the life in memory alone."""
    source = Source()
    load = loader(bench.cache(l1_ttl=5.0), source)
    load(1)
    bench.clock.advance(5.1)
    load(1)
    assert source.reads == 2


@pytest.mark.parametrize("profile", ["development", "testing", "production"])
@pytest.mark.parametrize("server", [{"l2_host": "redis://127.0.0.1:1/0"}, {"l3_servers": ["127.0.0.1:1"]}])
def test_servers_without_a_name_are_warned_of(caplog, profile, server):
    """A remote level without service name or namespace is pointed out once in every profile; either name settles it."""
    with caplog.at_level(logging.WARNING, "smw.cache"):
        Cache(server, host=Host(profile=profile))
    assert [record.getMessage().count("CACHE_NAMESPACE") for record in caplog.records] == [1]
    caplog.clear()
    Cache(server, host=Host(service="shop", profile=profile))
    Cache(server, namespace="shop", host=Host(profile=profile))
    Cache(host=Host(profile=profile))
    assert not caplog.records


def started(monkeypatch, **main) -> None:
    """Make it look as if this program was started otherwise."""
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(**main))


def key_in_main(**host) -> str:
    def load(number: int) -> int:
        return number

    load.__module__ = "__main__"
    return cache_module.key_for(Cache(host=Host(**host)).cached(60, key=lambda number: number)(load), 1)


def test_scripts_of_services_without_a_name_share_no_key(monkeypatch):
    """Functions of two scripts, or of two packages run with -m, have keys of their own, under one service name too."""
    keys, named = set(), set()
    spec = types.SimpleNamespace
    for main in (
        {"__file__": "/srv/billing.py", "__spec__": None},
        {"__file__": "/srv/profiles.py", "__spec__": None},
        {"__file__": "/srv/shop/__main__.py", "__spec__": spec(name="shop.__main__")},
        {"__file__": "/srv/bank/__main__.py", "__spec__": spec(name="bank.__main__")},
        {},
    ):
        started(monkeypatch, **main)
        keys.add(key_in_main())
        named.add(key_in_main(service="shop"))
        assert key_in_main() in keys
    assert (len(keys), len(named)) == (5, 5)


def test_processes_without_a_name_drop_from_each_other(bench, monkeypatch):
    """A drop by tag in one script reaches what another script of the same service has stored."""
    source, load = Source(), {}
    for script in ("web", "worker"):
        started(monkeypatch, __file__=f"/srv/{script}.py", __spec__=None)
        cache = bench.cache("l2", service="")
        load[script] = cache, loader(cache, source)
    assert load["web"][1](1)["value"] == load["worker"][1](1)["value"] == "old"
    source.value = "new"
    load["worker"][0].drop_sync(tags=["user:1"])
    bench.clock.advance(2)
    assert load["web"][1](1)["value"] == "new"


def test_forgotten_debt_of_a_test_is_none():
    """A cache that was never used closes without a word and without a connection."""
    made = Cache(l2_host="redis://127.0.0.1:1/0", l3_servers=["127.0.0.1:1"])
    made.close()
    made.close()
    assert made.backends() == {"redis": True, "memcached 127.0.0.1:1": True}


def test_the_last_key_names_keys_and_tags(bench):
    """A new key in front changes no name; without the old one every name is another, and a drop does not cross over."""
    old, new = {"old": b"1" * 32}, {"new": b"2" * 32}
    rings = {"before": old, "during": new | old, "after": new}
    caches = {name: bench.cache("l2", encryption_keys=ring) for name, ring in rings.items()}
    source = Source()
    readers = {name: loader(cache, source) for name, cache in caches.items()}
    names = {name: str(cache_module.key_for(reader, 1)) for name, reader in readers.items()}
    assert names["before"] == names["during"] != names["after"]
    for reader in readers.values():
        reader(1)
    assert source.reads == 2
    caches["before"].drop_sync(tags=["user"])
    bench.clock.advance(2)  # beyond what memory trusts without asking
    for reader in readers.values():
        reader(1)
    assert source.reads == 3
