"""The body of a WSGI request as the application reads it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smw.web.exchange import RequestTooLarge
from smw.web.wsgi_input import Input

DATA = b"one\ntwo\nthree"


class Slim:
    """No more than WSGI asks for."""

    def __init__(self, data):
        self._inner = io.BytesIO(data)
        self.asked = []

    def read(self, size):
        self.asked.append(size)
        return self._inner.read(size)

    def readline(self, size=-1):
        return self._inner.readline(size)


@pytest.mark.parametrize("limit", [None, len(DATA), 1000])
def test_it_reads_as_the_servers_stream_does(limit):
    """Every way of reading gives the same bytes, and counts them."""
    ways = [
        lambda stream: stream.read(),
        lambda stream: stream.read(-1),
        lambda stream: stream.read(None),
        lambda stream: stream.read(4) + stream.read(100),
        b"".join,
        lambda stream: b"".join(stream.readlines()),
        lambda stream: b"".join([*stream.readlines(1), *stream.readlines(5), *stream.readlines(None)]),
        lambda stream: stream.readline() + stream.readline(2) + stream.readline(-1) + next(stream),
        lambda stream: b"".join(iter(lambda: stream.read1(3), b"")),
    ]
    for way in ways:
        stream = Input(io.BytesIO(DATA), limit)
        assert way(stream) == way(io.BytesIO(DATA)) == DATA
        assert (stream.received, stream.is_over) == (len(DATA), False)


@given(st.binary(max_size=40), st.integers(0, 40), st.lists(st.integers(-1, 20), min_size=1, max_size=10))
def test_never_more_than_one_byte_above_the_limit_is_taken(data, limit, sizes):
    """Whatever is asked for; the application gets what lies below the limit, and is stopped at it."""
    server = io.BytesIO(data)
    stream = Input(server, limit)
    got = b""
    try:
        for size in sizes:
            got += stream.read(size)
    except RequestTooLarge:
        assert stream.is_over
        assert len(data) > limit
    assert server.tell() <= limit + 1
    assert got == data[: len(got)]
    assert len(got) <= limit


@pytest.mark.parametrize(
    "read", [lambda stream: stream.readline(), list, lambda stream: stream.readlines(), lambda stream: stream.read1(50)]
)
def test_every_way_of_reading_is_stopped(read):
    """There is no way around the limit."""
    server = io.BytesIO(b"x" * 100)
    with pytest.raises(RequestTooLarge):
        read(Input(server, 10))
    assert server.tell() == 11


def test_reading_into_a_buffer_is_counted_and_stopped():
    """As werkzeug reads from servers whose streams can do it."""
    stream = Input(io.BytesIO(b"x" * 100), 10)
    buffer = bytearray(8)
    assert stream.readinto(buffer) == 8
    with pytest.raises(RequestTooLarge):
        stream.readinto(buffer)
    assert stream.received == 11


def test_what_the_servers_stream_cannot_do_is_not_there():
    """Frameworks look for it, and must not find what would fail."""
    slim = Input(Slim(DATA), 5)
    assert not hasattr(slim, "readinto")
    assert not hasattr(slim, "seek")
    with pytest.raises(RequestTooLarge):
        slim.read()
    assert slim._stream.asked == [6]


def test_bytes_read_a_second_time_count_once():
    """Some middlewares read the body and rewind it."""
    stream = Input(io.BytesIO(b"x" * 10), 10)
    for _ in range(3):
        assert len(stream.read()) == 10
        assert stream.seek(0) == 0
    assert (stream.received, stream.is_over) == (10, False)
    assert stream.tell() == 0
    longer = Input(io.BytesIO(b"x" * 30), 10)
    longer.read(8)
    longer.seek(4)
    assert longer.read(4) == b"xxxx"
    with pytest.raises(RequestTooLarge):
        longer.read()
    assert longer.received == 11
