"""Serving a Redis Stream for real: several workers, deaths, restarts, and other programs at the same keys."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smw import pipeline
from smw._kernel.signals import BackendDown, BackendUp
from smw.errors import BackpressureError, ConfigError
from smw.testing import Recorded

pytestmark = [pytest.mark.service("redis"), pytest.mark.timed]  # a reader counts as dead after 0.3 s and less
WORKER = Path(__file__).with_name("worker.py")
FAST = pipeline.Retry(times=2, first=0.005, cap=0.01)


@pytest.fixture
async def client(redis_server):
    """A client that sees what the streams hold."""
    import redis.asyncio

    connection = redis.asyncio.Redis.from_url(redis_server.url)
    yield connection
    await connection.aclose()


@pytest.fixture
async def make(redis_server):
    """Make pipelines on the shared server and close them afterwards."""
    made = []

    def pipelines(**options):
        settings = {"redis_url": redis_server.url, "claim_idle_s": 0.3, "drain_s": 0.2, **options}
        made.append(pipeline.Pipeline(settings))
        return made[-1]

    yield pipelines
    for own in made:
        await own.aclose()


def start_worker(url, stream, behaviour="plain"):
    process = subprocess.Popen([sys.executable, str(WORKER), url, stream, behaviour], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


async def until(condition, seconds=60):
    """Wait until an async condition holds."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


async def pending(client, stream):
    return (await client.xpending(stream, "smw"))["pending"]


async def done(client, stream):
    return [int(value) for value in await client.lrange(f"{stream}.done", 0, -1)]


async def test_emit_and_serve(make, client, stream):
    """What is emitted is handled in order per key, acknowledged, and its worker leaves the group."""
    own = make()
    seen = []

    @own.stream_process(stream)
    async def handle(event: dict, ctx):
        seen.append((event["n"], ctx.key, ctx.headers.get("h")))

    for number in range(50):
        await own.emit(stream, {"n": number}, key=str(number % 3), headers={"h": "x"})
    await asyncio.to_thread(own.emit_sync, stream, {"n": 50}, "0")
    await own.serve(stream, until_empty=True)
    assert sorted(seen) == [(n, str(n % 3), "x") for n in range(50)] + [(50, "0", None)]
    for key in range(3):
        mine = [n for n, k, _ in seen if k == str(key)]
        assert mine == sorted(mine)
    assert await pending(client, stream) == 0
    assert await client.xinfo_consumers(stream, "smw") == []


async def test_dead_letters(make, client, stream):
    """A poison record ends in `<name>.dlq`, readable and whole; nothing stays pending."""
    own = make()

    @own.stream_process(stream, retry=FAST)
    def handle(event: int):
        raise ValueError(event)

    await own.emit(stream, 1, key="k")
    await own.emit(stream, b"\xff")
    await own.serve(stream, until_empty=True)
    letters = {letter.value: letter for letter in await own.dead_letters(stream)}
    assert {value: (letter.reason, letter.attempts) for value, letter in letters.items()} == {
        b"1": ("failed", 3),
        b"\xff": ("refused", 1),
    }
    assert await pending(client, stream) == 0
    assert await client.xlen(f"{stream}.dlq") == 2


async def test_two_workers_and_one_is_killed(make, client, stream, redis_server):
    """SIGKILL of one of two worker processes: the other takes over, every record is handled."""
    own = make()
    own.stream_process(stream)(lambda event: None)
    doomed = start_worker(redis_server.url, stream)
    other = start_worker(redis_server.url, stream)
    for number in range(400):
        await own.emit(stream, number)
    await until(lambda: _more_than(client, stream, 50))
    doomed.kill()
    doomed.communicate(timeout=30)
    await until(lambda: _all_done(client, stream, 400))
    other.terminate()
    assert other.communicate(timeout=30)[0] == "left\n"
    assert await pending(client, stream) == 0


async def _more_than(client, stream, count):
    return await client.llen(f"{stream}.done") > count


async def _all_done(client, stream, count):
    return set(await done(client, stream)) == set(range(count)) and await pending(client, stream) == 0


async def test_sigterm_loses_nothing_and_repeats_nothing(make, client, stream, redis_server):
    """A worker that is told to end finishes and settles what runs, hands back the rest at once, and exits with 0."""
    own = make()
    seen = []
    own.stream_process(stream)(seen.append)
    for number in range(2_000):
        await own.emit(stream, number)
    worker = start_worker(redis_server.url, stream)
    await until(lambda: _more_than(client, stream, 100))
    worker.send_signal(signal.SIGTERM)
    assert worker.communicate(timeout=30)[0] == "left\n"
    assert worker.returncode == 0
    first = await done(client, stream)
    assert len(first) < 2_000
    await own.serve(stream, until_empty=True)
    assert sorted(first + seen) == list(range(2_000))


async def test_a_record_that_kills_its_worker_is_not_tried_for_ever(make, client, stream, redis_server):
    """After as many crashes as attempts are allowed the next worker buries it, and the rest is done."""
    own = make(claim_idle_s=0.1)

    @own.stream_process(stream, retry=FAST)
    async def handle(event: int): ...

    for number in range(6):
        await own.emit(stream, number)
    for _ in range(3):
        worker = start_worker(redis_server.url, stream, "crash")
        worker.communicate(timeout=20)
        assert worker.returncode == 9
        await asyncio.sleep(0.35)
    assert await client.llen(f"{stream}.crashes") == 3
    await own.serve(stream, until_empty=True)
    (letter,) = await own.dead_letters(stream)
    assert (letter.value, letter.reason, letter.attempts) == (b"3", "crashed", 3)
    assert await pending(client, stream) == 0


async def test_records_that_nobody_tried_are_no_suspects(make, client, stream):
    """However often workers die with a record in their buffer, it is still tried."""
    own = make(claim_idle_s=0.05)
    seen = []
    own.stream_process(stream, retry=pipeline.Retry(times=0))(seen.append)
    await own.emit(stream, 1)
    for _ in range(5):
        reader = own._sources.reader(stream, None, None)
        while not await reader.poll(10, 0.05):
            pass
        await reader._client.aclose(close_connection_pool=True)
        await asyncio.sleep(0.06)
    await own.serve(stream, until_empty=True)
    assert seen == [1]


async def test_the_group_vanishes_under_a_worker(make, client, stream, caplog):
    """FLUSHALL and the like: the group is made again with a warning, and later records are handled."""
    own = make()
    seen = []
    own.stream_process(stream)(seen.append)
    await own.emit(stream, 1)
    serving = asyncio.create_task(own.serve(stream))
    await until(lambda: _seen(seen, 1))
    await client.delete(stream)
    await own.emit(stream, 2)
    await until(lambda: _seen(seen, 2))
    own.stop()
    await serving
    assert seen == [1, 2]
    assert "is gone, making it again" in caplog.text


async def _seen(seen, count):
    return len(seen) >= count


async def test_deleted_entries_are_reported(make, client, stream, caplog):
    """Entries that another program deletes while they are pending are counted in an error, and block nothing."""
    own = make(claim_idle_s=0.05)
    seen = []
    own.stream_process(stream)(seen.append)
    positions = [await own.emit(stream, number) for number in range(3)]
    reader = own._sources.reader(stream, None, None)
    assert len(await reader.poll(10, 0.5)) == 3
    await reader._client.aclose(close_connection_pool=True)
    await client.xdel(stream, positions[1])
    await asyncio.sleep(0.06)
    with caplog.at_level(logging.ERROR):
        await own.serve(stream, until_empty=True)
    assert sorted(seen) == [0, 2]
    assert "1 unsettled entries were deleted" in caplog.text
    assert await pending(client, stream) == 0


async def test_entries_of_other_programs(make, client, stream):
    """An entry without the field `value` is a JSON object of its fields; bytes that are no text are dead, not lost."""
    own = make()
    seen = []

    @own.stream_process(stream)
    async def handle(event: dict[str, int]):
        seen.append(event)

    await client.xadd(stream, {"user_id": 7, "ms": 5})
    await client.xadd(stream, {"user_id": b"\xff"})
    await client.xadd(stream, {"value": b"{}", "headers": b"no json", "key": b"\xff"})
    await own.serve(stream, until_empty=True)
    assert seen == [{"user_id": 7, "ms": 5}, {}]
    (letter,) = await own.dead_letters(stream)
    assert letter.value == b"user_id=\xff"


def _order(position):
    return tuple(map(int, position.split("-")))


async def test_trimming_spares_what_any_group_needs(make, client, stream):
    """A long stream loses only what every group has settled."""
    own = make(stream_keep=50)
    reader = own._sources.reader(stream, None, "one")
    await reader.append([pipeline.Entry(str(n).encode()) for n in range(1_000)])
    records = await reader.poll(1_000, 0.5)
    assert len(records) == 1_000
    await client.xgroup_create(stream, "two", id=records[499].position)
    await reader.settle([record.position for record in records if record is not records[899]])
    await reader.tend()
    first = (await client.xrange(stream, count=1))[0][0].decode()
    assert _order(records[0].position) < _order(first) <= _order(records[499].position)
    await client.xgroup_setid(stream, "two", "$")
    await reader.tend()
    first = (await client.xrange(stream, count=1))[0][0].decode()
    assert _order(records[499].position) < _order(first) <= _order(records[899].position)
    await reader.close()


async def test_a_key_of_another_type(make, client, stream):
    """A stream name that holds something else is an error that says so, when serving and when emitting."""
    own = make()
    own.stream_process(stream)(lambda event: None)
    await client.set(stream, "text")
    with pytest.raises(ConfigError, match="cannot hold the stream"):
        await own.serve(stream)
    with pytest.raises(ConfigError, match="cannot hold the stream"):
        await own.emit(stream, 1)


async def test_dead_letters_that_cannot_be_stored(make, client, stream, caplog):
    """While `<name>.dlq` cannot take it, the record stays unsettled; then it goes there."""
    own = make()

    @own.stream_process(stream, retry=pipeline.Retry(times=0))
    async def handle(event):
        raise ValueError

    await client.set(f"{stream}.dlq", "in the way")
    await own.emit(stream, 1)
    serving = asyncio.create_task(own.serve(stream))
    await until(lambda: _said(caplog, "no dead letter for record"))
    assert await pending(client, stream) == 1
    await client.delete(f"{stream}.dlq")
    await until(lambda: _none_pending(client, stream))
    own.stop()
    await serving
    (letter,) = await own.dead_letters(stream)
    assert letter.value == b"1"


async def _said(caplog, text):
    return text in caplog.text


async def _none_pending(client, stream):
    return await pending(client, stream) == 0


async def test_a_server_that_comes_later_goes_and_comes_back(service_factory):
    """Serving starts without a server, and goes on after a restart; every acknowledged emit is handled."""
    server = service_factory("redis", "--appendonly", "yes", "--appendfsync", "always")
    server.stop()
    own = pipeline.Pipeline(redis_url=server.url, claim_idle_s=0.5, emit_timeout_s=0.3)
    recorded = Recorded(own.host)
    seen, accepted = set(), []
    own.stream_process("s")(seen.add)
    serving = asyncio.create_task(own.serve("s"))
    with pytest.raises(BackpressureError, match="accepted nothing within"):
        await own.emit("s", -1)
    server.start()
    await until(lambda: _accepts(own, accepted))
    await until(lambda: _handled(seen, accepted))
    for number in range(100):
        await until(lambda number=number: _accepts(own, accepted, number))
        if number == 50:
            server.kill()
            with pytest.raises(BackpressureError):
                await own.emit("s", -2)
            server.start()
            await until(lambda: _accepts(own, accepted))
    await until(lambda: _handled(seen, accepted))
    own.stop()
    await asyncio.wait_for(serving, 30)
    await own.aclose()
    assert [type(signal) for signal in recorded.all if isinstance(signal, BackendDown | BackendUp)][:2] == [
        BackendDown,
        BackendUp,
    ]


async def _accepts(own, accepted, number=-3):
    try:
        await own.emit("s", number)
    except BackpressureError:
        return False
    accepted.append(number)
    return True


async def _handled(seen, accepted):
    return seen >= set(accepted)


def test_connections_end_with_their_event_loop(redis_server, stream, caplog):
    """One `asyncio.run` after another, without closing anything: no connection is left open, no loop complains."""
    own, seen = pipeline.Pipeline(redis_url=redis_server.url), []
    own.stream_process(stream)(seen.append)
    for number in range(3):
        asyncio.run(own.emit(stream, number))
    asyncio.run(own.serve(stream, until_empty=True))
    own.close()
    assert seen == [0, 1, 2]
    assert [record.getMessage() for record in caplog.records] == []
