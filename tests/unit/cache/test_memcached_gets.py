"""The reply of memcached to many keys at once: read to its end and no further, however it comes, or refused."""

from __future__ import annotations

import asyncio
import contextlib
import socketserver
import threading
import time
from types import SimpleNamespace

import pytest

from smw._kernel.clock import SystemClock, SystemEntropy
from smw.cache.ports import Found, StoreFailedError
from smw.cache.stores import memcached_clients
from smw.cache.stores.memcached import MemcachedStore
from smw.cache.stores.memcached_gets import TOMBSTONE, Question, ReplyError, answer, found_in, question

TRICKY = b"END\r\nVALUE b 0 2 9\r\nno\r\nEND\r\n"
REPLY = b"VALUE a 0 %d 17\r\n%s\r\nVALUE b 32 2 18\r\n12\r\nVALUE c 0 0 19\r\n\r\nEND\r\n" % (len(TRICKY), TRICKY)
FOUND = {"a": (TRICKY, b"17"), "b": (b"12", b"18"), "c": (b"", b"19")}
LONG_S = 20.0


def test_a_whole_reply_is_read_by_the_lengths_it_names():
    """What a value holds ends nothing, flags of somebody else matter to nobody, and nothing found is nothing."""
    assert answer(REPLY) == FOUND
    assert answer(b"END\r\n") == {}


def test_of_a_part_it_is_known_that_more_is_to_come():
    """At every place where a reply is cut, more bytes are asked for, and never more than it has."""
    for end in range(len(REPLY)):
        least = answer(REPLY[:end])
        assert isinstance(least, int)
        assert end < least <= len(REPLY)


@pytest.mark.parametrize(
    "said",
    [
        b"ERROR\r\n",
        b"SERVER_ERROR out of memory writing get response\r\n",
        b"VALUE a 0 -2 17\r\n12\r\nEND\r\n",
        b"VALUE a 0 1 17\r\n12\r\nEND\r\n",
        b"VALUE a 0 2\r\n12\r\nEND\r\n",
        b"END\r\nEND\r\n",
        b"VALUE a 0 2 17\r\n12\r\nSERVER_ERROR busy\r\n",
    ],
)
def test_what_is_no_reply_is_refused_at_once(said):
    """An error, lengths that do not hold, and more than was asked for are waited for by nobody."""
    with pytest.raises(ReplyError):
        answer(said)


@pytest.mark.parametrize("key", ["a\r\nflush_all", "a b", "a\n", "a\0", "a\x85"])
def test_a_key_cannot_ask_for_anything_else(key):
    """Nothing is sent for a name that would end the line or the word."""
    assert question(["a", "b"]).request == b"gets a b\r\n"
    with pytest.raises(ReplyError):
        question(["a", key])


@pytest.fixture(params=["sync", "async"])
def mode(request):
    return request.param


@pytest.fixture
async def served():
    """Return a function that starts a server which says the given parts as each reply, and returns a store on it."""
    stores, servers, opened = [], [], []

    def serve(parts, answers=None):
        class Say(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self):
                opened.append(self)
                with contextlib.suppress(ConnectionError):  # who is cancelled hangs up
                    while self.rfile.readline() and (answers is None or answers.wait(LONG_S)):
                        for part in parts:
                            self.wfile.write(part)
                            time.sleep(0.001)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Say)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        address = "{}:{}".format(*server.server_address)
        stores.append(MemcachedStore(address, timeout_s=LONG_S, clock=SystemClock(), entropy=SystemEntropy()))
        return stores[-1]

    serve.opened = opened
    yield serve
    for store in stores:
        await store.aclose()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("size", [1, 7, len(REPLY)])
async def test_a_reply_may_come_in_parts(served, mode, size):
    """Again and again over the same connection: the first time a blocking client connects, later it is connected."""
    store = served([REPLY[at : at + size] for at in range(0, len(REPLY), size)])
    for _ in range(2):
        assert await store.read("a", ("b", "c", "d"), mode=mode, timeout_s=LONG_S) == Found(
            TRICKY, (0x12, None, None), b"17"
        )


async def test_a_large_value_comes_whole(served, mode):
    """A megabyte is put together from its parts."""
    value = bytes(range(256)) * 1296
    reply = b"VALUE a 0 %d 1\r\n%s\r\nEND\r\n" % (len(value), value)
    store = served([reply[:9], reply[9:300_000], reply[300_000:-3], reply[-3:]])
    for _ in range(2):
        assert (await store.read("a", (), mode=mode, timeout_s=LONG_S)).blob == value


@pytest.mark.parametrize(
    ("said", "kind", "counts"),
    [(b"SERVER_ERROR out of memory writing get response\r\n", "full", False), (b"WHAT\r\n", "protocol", True)],
)
async def test_an_error_is_told_at_once(served, mode, said, kind, counts):
    """Nobody waits for the end of a reply that is none, the first time or later, and the next read has its own."""
    parts = [b"END\r\n"]
    store = served(parts)
    read = {"counters": ("b", "c"), "mode": mode, "timeout_s": LONG_S}
    assert (await store.read("a", **read)).blob is None
    parts[:] = [said]
    for _ in range(2):
        began = SystemClock.now()
        with pytest.raises(StoreFailedError) as caught:
            await store.read("a", **read)
        assert (caught.value.kind, caught.value.counts) == (kind, counts)
        assert SystemClock.now() - began < LONG_S / 2
    parts[:] = [REPLY]
    assert (await store.read("a", **read)).blob == TRICKY


async def test_more_callers_than_connections(served):
    """All of them are answered, over the connections that there are, and those are there for whoever comes later."""
    store = served([REPLY[:5], REPLY[5:]])
    read = {"mode": "async", "timeout_s": LONG_S}
    for _ in range(3):
        founds = await asyncio.gather(*[store.read("a", (), **read) for _ in range(12)])
        assert [found.blob for found in founds] == [TRICKY] * 12
    client = store._awaiting._clients.get()
    assert client._pool.size() == len(served.opened) == 4
    for _ in range(3):
        assert (await store.read("a", (), **read)).blob == TRICKY
    assert client._waiting == 0
    assert client._idle
    assert len(served.opened) == 4


@pytest.mark.parametrize("gone", [slice(0, 12), slice(0, 4), slice(4, 12), slice(4, 5)])
async def test_callers_that_leave_take_no_connection_along(served, gone):
    """Whoever is cancelled, while it asks or while it waits for a connection: others, and later ones, are answered."""
    parts, answers = [], threading.Event()
    store = served(parts, answers)
    read = {"mode": "async", "timeout_s": LONG_S}
    calls = [asyncio.ensure_future(store.read("a", (), **read)) for _ in range(12)]
    client = store._awaiting._clients.get()
    for _ in range(5000):
        if len(client._pool._in_use) == 4:
            break
        await asyncio.sleep(0.001)
    for call in calls[gone]:
        call.cancel()
    await asyncio.sleep(0)
    parts[:] = [REPLY]
    answers.set()
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(left, asyncio.CancelledError) for left in told[gone])
    assert [found.blob for found in told if isinstance(found, Found)] == [TRICKY] * (12 - len(told[gone]))
    founds = await asyncio.gather(*[store.read("a", (), **read) for _ in range(12)])
    assert [found.blob for found in founds] == [TRICKY] * 12
    assert client._waiting == 0
    assert client._pool.size() == 4


async def test_closing_leaves_no_connection(served):
    """Callers under way fail at once, those who waited for a connection too, and none of them leaves one open."""
    answers = threading.Event()
    store = served([REPLY], answers)
    calls = [asyncio.ensure_future(store.read("a", (), mode="async", timeout_s=LONG_S)) for _ in range(8)]
    client = store._awaiting._clients.get()
    for _ in range(5000):
        if len(client._pool._in_use) == 4:
            break
        await asyncio.sleep(0.001)
    await store.aclose()
    answers.set()
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert [each.kind for each in told] == ["connection"] * 8
    assert all(line.writer.transport.is_closing() for line in [*client._pool._in_use, *client._idle])


async def test_counters_behind_a_large_value_are_not_waited_for_one_by_one(monkeypatch):
    """A reply is gone through anew a few times, not for each of its lines: the event loop is not held up by a value."""
    value = bytes(900_000)
    counters = b"".join(b"VALUE counter%03d 0 16 1\r\n1700000000000000\r\n" % number for number in range(100))
    reader, gone_through = asyncio.StreamReader(), []
    reader.feed_data(b"VALUE a 0 %d 1\r\n%s\r\n%sEND\r\n" % (len(value), value, counters))

    def counted(reply):
        gone_through.append(len(reply))
        return answer(reply)

    monkeypatch.setattr(memcached_clients, "answer", counted)
    connection = SimpleNamespace(reader=reader, writer=SimpleNamespace(write=lambda _line: None))
    many = await memcached_clients._Client.gets_many(connection, ["a"])
    assert len(many) == 101
    assert many["a"][0] == value
    assert len(gone_through) < 10


@pytest.mark.parametrize("value", [b"12", b"", TRICKY, TOMBSTONE])
@pytest.mark.parametrize("first", [b"7c88ab26ab3273da", b"77a1E76B32D138F1", b"0x00000000000012", b"12", b"", TRICKY])
def test_the_usual_reply_is_read_like_any_other(value, first):
    """Whatever value and counters hold, of one look and of a closer one comes the same, at the end and not before."""
    parts = {"f": first, "t:1": b"00000000000000ff", "t:2": b"77a1e76b32d138f1", "smw:a": value}
    keys = tuple(parts)
    blocks = [b"VALUE %b 0 %d 7\r\n%b\r\n" % (key.encode(), len(part), part) for key, part in parts.items()]
    reply = b"".join(blocks) + b"END\r\n"
    known, blocks = Question(keys), [blocks[0], blocks[2], blocks[1], blocks[3]]
    for asked in (known, known, Question(keys)):  # the second time it knows how the reply begins
        assert all(isinstance(asked.found(reply[:end]), int) for end in range(len(reply)))
        told = asked.found(reply)
        assert told == found_in(answer(reply), keys)
        assert told.counters[1:] == (255, 0x77A1E76B32D138F1)
        assert (told.blob, told.token) == (None if value == TOMBSTONE else value, b"7")
        assert asked.found(b"".join(blocks) + b"END\r\n") == told
        assert asked.found(b"".join(blocks[:3]) + b"END\r\n") == Found(None, told.counters)
        with pytest.raises(ReplyError):
            asked.found(reply[:-5] + b"SERVER_ERROR busy\r\n")


def test_counters_are_those_of_the_reply_at_hand():
    """After any of them has changed, or is gone, what earlier replies showed is not told again."""
    keys = ("f", "t:1", "smw:a")
    shown = [(1, 2), (1, 3), (4, 3), (1, 3), (1, None), (1, 3)]
    asked, other = Question(keys), Question(("f", "t:2", "smw:a"))
    for numbers in shown:
        held = zip(keys, numbers, strict=False)
        parts = [b"VALUE %b 0 16 7\r\n%016x\r\n" % (key.encode(), number) for key, number in held if number is not None]
        reply = b"%bVALUE smw:a 0 2 9\r\n12\r\nEND\r\n" % b"".join(parts)
        assert asked.found(reply) == Found(b"12", numbers, b"9")
        assert other.found(reply) == Found(b"12", (numbers[0], None), b"9")  # it has asked for another one
