"""Another kind of server than the setting says, which answers all the while: told at once, and asked no more."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading

import pytest
import redis.exceptions as known

from smw._redis import kind_of_failure
from smw.cache import Cache
from tests.unit.cache.test_outage import until

NODE = "the server is a node of a cluster, to which redis+cluster://host1:6379,host2:6379 leads"
SENTINEL = "the server does not know MGET; a Sentinel does not, and redis+sentinel://"


def converse(connection, answers):
    """Answer the commands of one connection."""
    with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as said:
        while line := said.readline():
            words = [said.read(int(said.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
            answer = answers.get(words[0], answers[b""]).replace(b"COMMAND", words[0])
            nothing = b"*%d" % (len(words) - 1) + b"\r\n$-1" * (len(words) - 1)
            connection.sendall((answer or nothing) + b"\r\n")


@pytest.fixture
async def cache_at():
    """Make caches of servers that answer each command as told, others as the empty one, and nothing with nil."""
    async with contextlib.AsyncExitStack() as stack:

        def make(url, answers):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            stack.callback(listening.shutdown, socket.SHUT_RDWR)

            def serve():
                with contextlib.suppress(OSError):
                    while True:
                        connection = stack.enter_context(listening.accept()[0])
                        threading.Thread(target=converse, args=(connection, answers), daemon=True).start()

            threading.Thread(target=serve, daemon=True).start()
            cache = Cache(namespace="t", l2_url=url.format(f"127.0.0.1:{listening.getsockname()[1]}"), budget_ms=20_000)
            stack.push_async_callback(cache.aclose)
            return cache

        yield make


PONG = {b"PING": b"+PONG"}
UNKNOWN = PONG | {b"": b"-ERR unknown command 'COMMAND', with args beginning with: 'smw' "}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("redis://{}", PONG | {b"": b"-MOVED 866 127.0.0.1:7001"}), NODE),
        (("redis://{}", PONG | {b"": b"-CROSSSLOT Keys in request don't hash to the same slot"}), NODE),
        (("redis://{}", PONG | {b"": b"-CLUSTERDOWN Hash slot not served"}), NODE),
        (("redis://{}", UNKNOWN), SENTINEL),
        (("redis+sentinel://{}/main", UNKNOWN), "a Redis answers there that is no Sentinel, and redis://"),
        (("redis+cluster://{}", UNKNOWN), "the server does not know EXISTS; a Sentinel does not"),
        (("redis://{}", {b"": b"-ERR this is a printer"}), "the server refuses everything (this is a printer)"),
    ],
    ids=["moved", "slots", "cluster-down", "sentinel", "no-sentinel", "cluster-of-sentinel", "refuses"],
)
async def test_another_kind_of_server_is_told_at_once(cache_at, caplog, asked, told):
    """What repeating cannot mend opens the breaker, the log names the setting, and no probe closes it again."""
    cache = cache_at(*asked)

    @cache.cached(60, levels=("l2",))
    async def load(number):
        return number

    with caplog.at_level(logging.ERROR, "smw.guard"):
        assert await load(1) == 1
        assert until(lambda: False in cache.backends().values())
    assert told in caplog.text
    assert "correct the scheme, the host or the port in CACHE_L2_URL" in caplog.text
    assert not any(level.breaker.probe_now() for level in cache.engine.remote.servers if level.breaker.is_open)


async def test_a_server_that_refuses_some_requests_is_asked_on(cache_at):
    """What a plain question is answered to refuses some requests and not all of them: its breaker stays shut."""
    cache = cache_at("redis://{}", {b"MGET": b"", b"": b"-ERR Error running script"})
    load = cache.cached(60, levels=("l2",))(lambda number: number)
    assert [load(number) for number in range(8)] == list(range(8))
    level = cache.engine.remote.servers[0]
    assert until(lambda: not level._is_asking)
    assert level.errors["answer"] >= 8
    assert not level.breaker.is_open
    level.breaker.failed("of the test", permanent=True)
    level.greet = None
    assert level.breaker.probe_now()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (known.MasterDownError("Link with MASTER is down"), "cluster-down"),
        (known.ResponseError("BUSY Redis is busy running a script"), "answer"),
        (known.ClusterDownError("The cluster is down"), "other-server"),
    ],
)
def test_what_passes_is_no_other_kind_of_server(error, kind):
    """A replica without its master, and a long script, are of the moment, on one server as on a node."""
    assert kind_of_failure(error, is_alone=True) == (kind, kind == "other-server")
