"""A busy event loop is not taken for a sick server, and a sick server is still noticed by a busy event loop."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest

from smw import _redis
from smw.cache import Cache
from smw.cache.stores.deadlines import LagError
from smw.cache.stores.redis_lines import AwaitingLines

pytestmark = pytest.mark.service("redis")
CALLERS = 1000


def of(number):
    """Return what the source has."""
    return {"number": number, "list": [number] * 20}


def counting(cache, runs, **options):
    """Return a cached coroutine function that notes its runs."""

    async def load(number):
        runs.append(number)
        await asyncio.sleep(0.001)
        return of(number)

    return cache.cached(60, tags=["all"], levels=("l2",), key=lambda number: number, **options)(load)


def breaker_of(cache):
    return cache._engine.remote.servers[0].breaker


@pytest.mark.timed
@pytest.mark.parametrize("flight", ["process", "fleet"])
async def test_a_burst_of_cold_callers_opens_no_breaker(redis_server, flight):
    """A thousand coroutines that nothing is kept for: each gets its own value, and Redis is still asked after."""
    cache, runs, opened = Cache(namespace=uuid.uuid4().hex, l2_url=redis_server.url), [], []
    breaker, load = breaker_of(cache), counting(cache, runs, flight=flight)
    for _ in range(3):
        assert await asyncio.gather(*map(load, range(CALLERS))) == list(map(of, range(CALLERS)))
        opened.append(breaker.is_open)
    assert opened == [False] * 3
    assert cache._engine.remote.servers[0].errors["timeout"] < CALLERS / 20  # the server waits as well
    await cache.aclose()


async def test_a_burst_finds_what_is_kept(redis_server):
    """A thousand coroutines of another process find what one has kept, however long the loop takes to ask for it."""
    namespace, runs = uuid.uuid4().hex, []
    options = {"namespace": namespace, "l2_url": redis_server.url, "jitter": 0.0}
    first, second = Cache(**options), Cache(**options)
    load = counting(first, runs)
    for start in range(0, CALLERS, 20):
        await asyncio.gather(*map(load, range(start, start + 20)))
    runs.clear()
    assert await asyncio.gather(*map(counting(second, runs), range(CALLERS))) == list(map(of, range(CALLERS)))
    assert len(runs) < CALLERS / 10
    assert not breaker_of(second).is_open
    await first.aclose()
    await second.aclose()


async def test_a_hung_server_is_noticed_by_a_busy_loop(service_factory):
    """Where the server answers nothing the breaker opens, although the loop computes most of the time."""
    server, runs = service_factory("redis"), []
    cache = Cache(namespace=uuid.uuid4().hex, l2_url=server.url)
    load, breaker = counting(cache, runs), breaker_of(cache)
    assert await load(0) == of(0)

    async def compute():
        while not breaker.is_open:
            until = time.perf_counter() + 0.01
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    server.pause()
    try:
        busy = asyncio.ensure_future(compute())
        turns = 0
        while not breaker.is_open and turns < 20:
            assert await asyncio.gather(*map(load, range(10))) == list(map(of, range(10)))
            turns += 1
        await asyncio.wait_for(busy, 10)
        assert breaker.is_open
    finally:
        server.resume()
        await cache.aclose()


async def test_an_answer_that_waits_in_the_socket_is_lag(redis_server):
    """An answer that came while the loop was busy elsewhere is handed out; one of which a part is missing is lag."""
    lines = AwaitingLines(_redis.awaiting(redis_server.url, timeout_s=None), most=1)
    name = f"big{uuid.uuid4().hex}"
    assert await lines.run(5.0, "SET", name, b"x" * 2**24, "EX", "60")
    assert await lines.run(5.0, "PING") == b"PONG"

    async def blocked(*command):
        asking = asyncio.ensure_future(lines.run(0.05, *command))
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251 - the loop is to be blocked
        return await asking

    assert await blocked("PING") == b"PONG"
    with pytest.raises(LagError):
        await blocked("GET", name)
    assert await lines.run(5.0, "DEL", name) == 1
    await lines.aclose()


async def test_a_wait_for_a_connection_that_others_use_is_lag(redis_server):
    """Whoever waits in vain for a connection while the server answers others has nothing to say against it."""
    lines = AwaitingLines(_redis.awaiting(redis_server.url, timeout_s=None), most=1)
    assert await lines.run(1.0, "PING") == b"PONG"
    queue = [asyncio.ensure_future(lines.run(60.0, "BLPOP", f"none{uuid.uuid4().hex}", "0.1")) for _ in range(30)]
    await asyncio.sleep(0)
    with pytest.raises(LagError):
        await lines.run(1.0, "PING")
    for waiting in queue:
        waiting.cancel()
    assert None in await asyncio.gather(*queue, return_exceptions=True)
    await lines.aclose()
