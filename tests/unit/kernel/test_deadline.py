"""A socket whose time-out covers a whole exchange."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time

import pytest

from smw._kernel.deadline import over


@pytest.fixture
def sock():
    """A server that answers each byte with five, one every 50 ms; the fixture is the client's side."""
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        with contextlib.suppress(OSError):
            other, _ = listener.accept()
            with other:
                while other.recv(1):
                    for _ in range(5):
                        time.sleep(0.05)
                        other.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    client = socket.create_connection(listener.getsockname())
    sock = over(client)
    yield sock
    sock.close()
    listener.close()
    thread.join(5)


def read_five(sock, *, at_once=False) -> bytes:
    if at_once:
        got = sock.exchange(b"?", 64)
    else:
        sock.sendall(b"?")
        got = b""
    while len(got) < 5:
        got += sock.recv(64)
    return got


@pytest.fixture(params=["poll", "no poll"])
def _waiting(request, monkeypatch):
    """Systems differ in how one waits for a socket."""
    if request.param == "no poll":
        monkeypatch.delattr(select, "poll", raising=False)


@pytest.mark.timed
@pytest.mark.usefixtures("_waiting")
@pytest.mark.parametrize("at_once", [False, True])
def test_dripping_reply_does_not_outlast_the_timeout(sock, at_once):
    """Bytes that keep coming one by one do not renew the time-out, as they do with a plain socket."""
    sock.settimeout(0.15)
    began = time.perf_counter()
    with pytest.raises(TimeoutError):
        read_five(sock, at_once=at_once)
    assert time.perf_counter() - began < 0.24


@pytest.mark.timed
@pytest.mark.usefixtures("_waiting")
def test_every_exchange_has_the_whole_time(sock):
    """A slow reply within its time leaves the next exchange the full time again."""
    sock.settimeout(0.6)  # one takes a quarter of a second, all of them longer
    for at_once in (False, True, False):
        assert read_five(sock, at_once=at_once) == b"xxxxx"
    sock.settimeout(None)
    assert read_five(sock) == b"xxxxx"


@pytest.mark.usefixtures("_waiting")
def test_a_server_that_says_nothing_is_not_waited_for_beyond_the_timeout():
    """The first bytes of a reply are awaited no longer than the rest of it."""
    ours, theirs = socket.socketpair()
    sock = over(ours)
    with theirs, sock:
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.exchange(b"?", 64)


@pytest.mark.usefixtures("_waiting")
def test_a_request_that_does_not_fit_at_once_is_sent_whole():
    """What the system takes in parts is sent to its end, over a connection that has room for nothing at first too."""
    request = bytes(2**22)
    ours, theirs = socket.socketpair()
    sock = over(ours)

    def take() -> None:
        left = 2 * len(request)
        while left:
            left -= len(theirs.recv(2**20))
            if left in (0, len(request)):
                theirs.sendall(b"!")

    with theirs, sock:
        sock.settimeout(20.0)
        thread = threading.Thread(target=take)
        thread.start()
        got = [sock.exchange(request, 1) for _ in range(2)]
        thread.join(20)
    assert got == [b"!", b"!"]
