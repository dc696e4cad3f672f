"""`codec="json"`: servers keep JSON, and only what comes back equal."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from enum import IntEnum

import pytest

from smw._kernel.signals import CacheUncached
from smw.cache import key_for
from smw.cache.sight.browsing import value_of
from smw.cache.values.codec import JSON, MSGPACK, Codec
from smw.errors import DecorationError
from tests.unit.cache.shapes import SHAPES, Shaped


class Size(IntEnum):
    SMALL = 1


VALUES = [None, True, 1, -0.0, 2**70, "Zoë\0", [], {}, {"a": [1, 2.5, True, None, {"b": ""}]}]
NUMBERS = [math.nan, math.inf, Size.SMALL]
OTHERS = [(1,), [(1,)], {1: "a"}, {1: "a", "1": "b"}, b"x", {1}, "\ud800", OrderedDict(), *NUMBERS]


@pytest.mark.parametrize("shape", SHAPES, ids="-".join)
async def test_another_process_reads_json_from_the_server(bench, shape):
    """What lies on the server is JSON; the next process finds an equal value, with or without the option."""
    value = {"name": "Zoë", "plays": [1, 2.5, True, None]}
    loads = [
        Shaped(bench.cache("l2", compression=False), shape, lambda _: value, codec=codec)
        for codec in ("json", "json", "auto")
    ]
    assert [await load(1) for load in loads] == [value] * 3
    assert [load.runs for load in loads] == [1, 0, 0]
    (blob,) = [blob for blob, _ in bench.stores["l2"].data.values()]
    assert blob.endswith('{"name":"Zoë","plays":[1,2.5,true,null]}'.encode())


@pytest.mark.parametrize(
    ("value", "codec", "shown"),
    [({"a": 1}, "json", "json"), ({"a": 1}, "auto", "msgpack"), (b"a", "auto", "bytes")],
)
def test_people_are_told_the_form_by_name(bench, value, codec, shown):
    """What lists the values of a server names the form of each, JSON included."""
    cache = bench.cache("l2")
    read = cache.cached(60, codec=codec, key=lambda: 1)(lambda: value)
    read()
    assert value_of(cache, key_for(read))[0].encoding == shown


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_json_has_comes_back_equal(value):
    """Values of JSON's own types travel, types included."""
    codec = Codec(as_json=True)
    encoding, payload = codec.pack(value)
    back = codec.unpack(encoding, payload)
    assert (encoding, repr(back)) == (JSON, repr(value))
    assert codec.unpack(*Codec().pack([value])) == [value]
    assert Codec().pack([value])[0] == MSGPACK


@pytest.mark.parametrize("value", OTHERS, ids=repr)
async def test_what_json_would_change_stays_in_memory(bench, caplog, value):
    """It is kept here, counted for each load, and warned of once; nothing reaches the server."""
    cache = bench.cache("l2")
    load = Shaped(cache, ("function", "sync"), lambda _: value, codec="json")
    with caplog.at_level(logging.WARNING, "smw.cache"):
        for number in (1, 2, 1, 2):
            await load(number)
    assert load.runs == 2
    assert [signal.reason for signal in cache.recorded.of(CacheUncached)] == ["no-json-result"] * 2
    assert caplog.text.count("JSON makes no equal value") == 1
    assert not [blob for blob, _ in bench.stores["l2"].data.values()]


@pytest.mark.parametrize("codec", ["jsn", None, 1])
def test_another_codec_is_refused(bench, codec):
    """A form that the cache does not have is refused with the nearest."""
    with pytest.raises(DecorationError, match=r'codec= is "auto" or "json"'):
        bench.cache().cached(60, codec=codec)
