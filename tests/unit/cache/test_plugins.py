"""Stores and codecs that other packages bring."""

from __future__ import annotations

import fractions
import importlib
import logging
import sys
import textwrap

import pytest

from smw import plugins
from smw.cache import Cache
from smw.cache.stores import plugged
from smw.cache.values.codec import Codec, CorruptError, UnstorableError
from smw.errors import ConfigError

STORE = """
from smw._kernel.clock import SystemClock
from smw.cache.stores.local import LocalStore

made = []

def store(url, *, timeout_s):
    made.append((url, timeout_s))
    return LocalStore("memory://" + url.partition("://")[2], clock=SystemClock())

def nothing(url, *, timeout_s):
    return object()

def failing(url, *, timeout_s):
    raise ValueError(url)
"""
CODECS = """
class Point:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return type(other) is Point and other.x == self.x

class PointCodec:
    def pack(self, value):
        return b"%d" % value.x
    def unpack(self, payload):
        return Point(int(payload))

class Odd:
    pass

class OddCodec:
    def pack(self, value):
        return 5
"""
POINTS = """
[smw.cache.stores]
toy = plugin_of_tests:store
redis = plugin_of_tests:store
void = plugin_of_tests:nothing
fail = plugin_of_tests:failing
exit = plugin_that_exits:store
gone = no_such_plugin_of_tests:store
[smw.cache.codecs]
plugin_of_tests.Point = plugin_of_tests:PointCodec()
plugin_of_tests.Odd = plugin_of_tests:OddCodec()
"""


CALLS = []


def price(sku: str) -> int:
    """Cached below, by several caches."""
    CALLS.append(sku)
    return 7


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with plug-ins, installed for one test."""
    (tmp_path / "plugin_of_tests.py").write_text(
        STORE + CODECS + "\npoint_codec = PointCodec()\nodd_codec = OddCodec()\n"
    )
    about = tmp_path / "plugin_of_tests-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-tests\nVersion: 1.0\n")
    points = POINTS.replace("PointCodec()", "point_codec").replace("OddCodec()", "odd_codec")
    (about / "entry_points.txt").write_text(textwrap.dedent(points))
    (tmp_path / "plugin_that_exits.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugged.installed_codecs.cache_clear()
    monkeypatch.setattr(plugged, "_loaded", {})
    yield importlib.import_module("plugin_of_tests")
    monkeypatch.undo()
    sys.modules.pop("plugin_of_tests")
    plugged.installed_codecs.cache_clear()


def test_a_store_is_made_by_the_scheme_of_its_url(installed):
    """A level at a plug-in's URL is served by the plug-in, which is told the URL and the time it has."""
    first, second = (Cache(l2_url="toy://shop", namespace="n", budget_ms=80) for _ in range(2))
    CALLS.clear()
    one, other = first.cached(60)(price), second.cached(60)(price)
    assert (one("a"), other("a")) == (7, 7)
    assert CALLS == ["a"]
    assert installed.made[0] == ("toy://shop", 0.08)
    first.close()
    second.close()


def test_a_plugin_takes_no_scheme_of_ours(installed):
    """Who installs a package does not have Redis replaced by it, and no plug-in is looked for."""
    cache = Cache(l2_url="redis://127.0.0.1:1", namespace="n")
    assert cache.engine.remote.servers[0].store.name == "redis"
    assert installed.made == []
    cache.close()


def test_several_servers_of_a_plugin_share_l3(installed):
    """URLs of a plug-in stand beside memcached's host:port, keys spread over all of them."""
    cache = Cache(l3_servers=["toy://a", "toy://b"], namespace="n")
    assert sorted(level.store.name for level in cache._engine.remote.servers) == ["memory a", "memory b"]
    cache.close()


def test_an_unknown_scheme_lists_what_is_installed(installed):
    """Who mistypes a plug-in's scheme is shown the installed ones and offered the nearest."""
    known = r"installed: exit://, fail://, gone://, toy://, void://\. Did you mean 'toy'"
    with pytest.raises(ConfigError, match=known) as raised:
        Cache(l2_url="toyy://x")
    assert raised.value.code == "SMW-S101"


def test_redis_is_no_server_of_l3():
    """A Redis in the place of a memcached is refused, without its password."""
    with pytest.raises(ConfigError, match=r"redis://\*\*\*@h.* is no server of L3"):
        Cache(l3_servers=["redis://:pw@h"])


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("void://x", "SMW-C122"),
        ("fail://:pw@x", "SMW-C122"),
        ("gone://x", "SMW-S105"),
        ("exit://x", "SMW-S105"),
    ],
)
def test_a_broken_plugin_is_named(installed, url, code):
    """A plug-in that makes no store, or cannot be imported, is an error when the cache is built."""
    with pytest.raises(ConfigError) as raised:
        Cache(l2_url=url)
    assert raised.value.code == code
    assert "pw" not in str(raised.value)


def test_no_plugin_is_imported_before_it_is_needed(installed):
    """Listing what is installed imports nothing."""
    assert plugins.names(plugins.STORES) == ("exit", "fail", "gone", "redis", "toy", "void")
    assert plugins.load(plugins.STORES, "absent") is None


def test_a_type_of_a_plugin_is_stored_and_comes_back(installed):
    """Objects whose type a plug-in knows travel within other values, and come back equal and of their type."""
    codec = Codec()
    value = {"at": [installed.Point(3), installed.Point(4)], "n": 1}
    assert codec.unpack(*codec.pack(value)) == value


def test_bytes_of_a_plugin_that_is_gone_are_corrupt(installed, monkeypatch):
    """Where the plug-in is not installed any more its values are a counted miss."""
    packed = Codec().pack(installed.Point(3))
    monkeypatch.setattr(plugged, "installed_codecs", frozenset)
    with pytest.raises(CorruptError):
        Codec().unpack(*packed)
    with pytest.raises(UnstorableError):
        Codec().pack(installed.Point(3))


def test_what_a_plugin_packs_is_bytes(installed):
    """A codec that returns something else leaves the value unstored."""
    with pytest.raises(UnstorableError):
        Codec().pack(installed.Odd())


def test_a_codec_that_cannot_be_imported_is_reported_once(installed, monkeypatch, caplog):
    """The function goes on, its results stay off the servers, and one error says why."""
    monkeypatch.setattr(plugged, "installed_codecs", lambda: frozenset({"fractions.Fraction"}))

    def fails(_group, _name):
        raise ConfigError("SMW-S105", "broken")

    monkeypatch.setattr(plugged.plugins, "load", fails)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            with pytest.raises(UnstorableError):
                Codec().pack(fractions.Fraction(1, 3))
    assert len(caplog.records) == 1


def test_caches_at_one_memory_url_share_a_server_in_the_process():
    """memory://name stands for a server that several caches use; memory:// alone is each one's own."""
    first, second, alone = (Cache(l2_url=url, namespace="n") for url in ("memory://a", "memory://a", "memory://"))
    CALLS.clear()
    functions = [cache.cached(60)(price) for cache in (first, second, alone)]
    assert [function("a") for function in functions] == [7, 7, 7]
    assert CALLS == ["a", "a"]
    for cache in (first, second, alone):
        cache.close()
