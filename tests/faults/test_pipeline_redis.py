"""A Redis that hangs, dies mid-answer or forgets: streams lose nothing, and emit never waits without bound."""

from __future__ import annotations

import asyncio
import time

import pytest

from smw import pipeline
from smw.errors import BackpressureError, Unavailable
from smw.pipeline.ports import Entry
from tests.integration.pipeline.waiting import until

pytestmark = pytest.mark.service("redis")


@pytest.mark.timed
async def test_emit_to_a_hung_server_is_bounded(service_factory):
    """Against a server that is stopped in mid-life, emit gives up within its time-out and one network time-out."""
    server = service_factory("redis")
    own = pipeline.Pipeline(redis_url=server.url, emit_timeout_s=0.5)
    await own.emit("s", 0)
    server.pause()
    started = time.monotonic()
    with pytest.raises(BackpressureError, match="accepted nothing within"):
        await own.emit("s", 1)
    assert time.monotonic() - started < 4
    server.resume()
    await own.emit("s", 2)
    await own.aclose()


async def test_serving_through_a_hang(service_factory):
    """A server that hangs and comes back: what was emitted before and after is handled."""
    server = service_factory("redis")
    own = pipeline.Pipeline(redis_url=server.url, claim_idle_s=0.5)
    seen = set()
    own.stream_process("s")(seen.add)
    serving = asyncio.create_task(own.serve("s"))
    await own.emit("s", 0)
    await until(lambda: 0 in seen)
    server.pause()
    await asyncio.sleep(3)
    server.resume()
    await own.emit("s", 1)
    await until(lambda: 1 in seen)
    own.stop()
    await asyncio.wait_for(serving, 30)
    await own.aclose()


async def test_records_in_work_survive_a_hang(service_factory):
    """A handler that finishes while the server hangs is settled afterwards, once, and not handled again."""
    server = service_factory("redis")
    own = pipeline.Pipeline(redis_url=server.url, claim_idle_s=60)
    release, seen = asyncio.Event(), []

    @own.stream_process("s")
    async def handle(event):
        seen.append(event)
        await release.wait()

    serving = asyncio.create_task(own.serve("s"))
    for number in range(20):
        await own.emit("s", number)
    await until(lambda: len(seen) == 20)
    server.pause()
    release.set()
    await asyncio.sleep(2.5)
    server.resume()
    await until(lambda: not own._tally("s").in_flight)
    own.stop()
    await asyncio.wait_for(serving, 30)
    await own.serve("s", until_empty=True)
    assert sorted(seen) == list(range(20))
    await own.aclose()


async def test_a_settle_whose_answer_is_lost_is_repeated(service_factory):
    """Acknowledging twice is harmless: after a lost connection the same positions are settled again."""
    server = service_factory("redis")
    own = pipeline.Pipeline(redis_url=server.url)
    own.stream_process("s")(lambda event: None)
    reader = own._sources.reader("s", None, None)
    await reader.append([Entry(b"1"), Entry(b"2")])
    records = await reader.poll(10, 0.5)
    real, lost = reader._client.xack, [True]

    async def losing(*args):
        result = await real(*args)
        if lost.pop() if lost else False:
            raise OSError("connection reset")
        return result

    reader._client.xack = losing
    positions = [record.position for record in records]
    with pytest.raises(Unavailable):
        await reader.settle(positions)
    await reader.settle(positions)
    assert (await reader._client.xpending("s", "smw"))["pending"] == 0
    await reader.close()


async def test_an_answer_that_was_lost_is_asked_for_again(service_factory):
    """Records that the server handed out over a connection that broke come with the next poll."""
    server = service_factory("redis")
    own = pipeline.Pipeline(redis_url=server.url)
    reader = own._sources.reader("s", None, None)
    await reader.append([Entry(str(n).encode()) for n in range(500)])
    assert len(await reader.poll(10, 0.5)) == 10
    real = reader._client.xreadgroup

    async def losing(*args, **options):
        await real(*args, **options)
        reader._client.xreadgroup = real
        raise OSError("connection reset")

    reader._client.xreadgroup = losing
    with pytest.raises(Unavailable):
        await reader.poll(300, 0.5)
    got = []
    while len(got) < 490:
        got.extend(await reader.poll(120, 0.5))
    assert sorted(int(record.value) for record in got) == list(range(10, 500))
    await reader.close()


async def test_a_server_that_dies_does_not_hold_up_the_end(service_factory):
    """Stopping without a server ends within the bounds, and says that the last records will come again."""
    server = service_factory("redis")
    own = pipeline.Pipeline(redis_url=server.url, drain_s=0.2)
    running, release = asyncio.Event(), asyncio.Event()

    @own.stream_process("s")
    async def handle(event):
        running.set()
        await release.wait()

    await own.emit("s", 1)
    serving = asyncio.create_task(own.serve("s"))
    await running.wait()
    server.kill()
    release.set()
    own.stop()
    await asyncio.wait_for(serving, 30)
    await own.aclose()
    assert own._tally("s").done == 1


async def test_a_full_server_pushes_back(service_factory):
    """Out of memory is back-pressure, not a crash."""
    server = service_factory("redis", "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    own = pipeline.Pipeline(redis_url=server.url, emit_timeout_s=0.5)

    async def fill():
        for _ in range(100):
            await own.emit("s", "x" * 100_000)

    with pytest.raises(BackpressureError, match="accepted nothing") as caught:
        await fill()
    assert "full" in caught.value.seen
    await own.aclose()
