"""What delivery costs: draining a stream through a handler beside a bare client that promises less."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from benchmarks import _kafka
from benchmarks._table import Row
from smw import pipeline
from smw.pipeline.ports import Entry
from tests.services.locate import Found, locate
from tests.services.server import launch
from tests.services.specs import SPECS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

NAME = "pipeline"
KINDS = ("play", "skip", "like", "save", "share")
STREAM = "bench_events"
PAGE = 100


class Event(BaseModel):
    """What happened in a music service."""

    event_id: str
    user_id: int
    kind: str
    track_id: int
    ms_played: int
    at: str
    country: str
    t0: float


def event(number: int) -> bytes:
    """Return one event as JSON."""
    fields = {
        "event_id": f"e{number:09d}",
        "user_id": number * 7919 % 10007,
        "kind": KINDS[number % 5],
        "track_id": number * 31 % 5000,
        "ms_played": number * 37 % 240000,
        "at": "2026-01-01T00:00:00Z",
        "country": "FR",
        "t0": 0.0,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


class Clocked:
    """A handler's clock: from the first call to the last, then `last` is called."""

    def __init__(self, count: int, last: Callable[[], None]) -> None:
        self._count, self._last = count, last
        self._calls, self._started = 0, 0.0
        self.rate = 0.0

    def tick(self) -> None:
        """Count one call."""
        if not self._calls:
            self._started = time.perf_counter()
        self._calls += 1
        if self._calls == self._count:
            self.rate = self._count / (time.perf_counter() - self._started)
            self._last()


async def fill(url: str, count: int) -> Any:
    """Write the events and return a client."""
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(url)
    await client.delete(STREAM)
    await client.xgroup_create(STREAM, "bare", id="0", mkstream=True)
    async with client.pipeline(transaction=False) as many:
        for number in range(count):
            many.xadd(STREAM, {"value": event(number), "key": str(number * 7919 % 10007)})
        await many.execute()
    return client


async def bare_redis(url: str, count: int) -> float:
    """Drain with redis-py alone: one page, one acknowledgement, no retry, no order, no dead letter."""
    client = await fill(url, count)
    clock = Clocked(count, lambda: None)

    async def handle(_event: Event) -> None:
        clock.tick()

    done = 0
    while done < count:
        answer = await client.xreadgroup("bare", "c", {STREAM: ">"}, count=PAGE)
        ids = []
        for position, fields in answer[0][1]:
            await handle(Event.model_validate_json(fields[b"value"]))
            ids.append(position)
        await client.xack(STREAM, "bare", *ids)
        done += len(ids)
    await client.aclose()
    return clock.rate


async def smw_drain(options: dict[str, Any], prepare: Callable[[Any], Coroutine[Any, Any, None]], count: int) -> float:
    """Drain with a served handler."""
    served = pipeline.Pipeline(options)
    clock = Clocked(count, lambda: served.stop(STREAM))

    @served.stream_process(STREAM)
    async def handle(_event: Event) -> None:
        clock.tick()

    await prepare(served)
    await served.serve(STREAM)
    await served.aclose()
    return clock.rate


async def smw_redis(url: str, count: int) -> float:
    """Drain the Redis Stream."""

    async def prepare(_served: Any) -> None:
        await (await fill(url, count)).aclose()

    return await smw_drain({"redis_url": url}, prepare, count)


async def bare_queue(count: int) -> float:
    """Drain an asyncio queue by hand."""
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    for number in range(count):
        queue.put_nowait(event(number))
    clock = Clocked(count, lambda: None)

    async def handle(_event: Event) -> None:
        clock.tick()

    for _ in range(count):
        await handle(Event.model_validate_json(await queue.get()))
    return clock.rate


async def smw_memory(count: int) -> float:
    """Drain the in-memory stream, by the keys of the events' users."""

    async def prepare(served: Any) -> None:
        writer = served._sources.writer(STREAM, None)  # noqa: SLF001 - filling is not what is measured
        await writer.append([Entry(event(number), str(number * 7919 % 10007)) for number in range(count)])

    return await smw_drain({"stream_buffer_size": count}, prepare, count)


async def waiting(count: int, keys: int) -> tuple[float, int]:
    """Handle records that wait 1 to 9 ms each, in order per key; returns records a second and those out of order."""
    served = pipeline.Pipeline({"stream_buffer_size": count})
    clock = Clocked(count, lambda: served.stop(STREAM))
    last: dict[int, int] = {}
    disorder = 0

    @served.stream_process(STREAM)
    async def handle(record: dict[str, int]) -> None:
        nonlocal disorder
        number = record["i"]
        await asyncio.sleep((1 + number * 2654435761 % 9) / 1000)
        disorder += last.get(number % keys, -1) > number
        last[number % keys] = number
        clock.tick()

    for number in range(count):
        await served.emit(STREAM, {"i": number}, key=str(number % keys))
    await served.serve(STREAM)
    await served.aclose()
    return clock.rate, disorder


async def paced(url: str, count: int, receive: Callable[[Any, list[float]], Coroutine[Any, Any, None]]) -> float:
    """Send 500 records a second and return the median milliseconds until the handler has one."""
    client = await fill(url, 0)
    late: list[float] = []
    receiving = asyncio.create_task(receive(client, late))
    await asyncio.sleep(0.2)
    for _ in range(count):
        await client.xadd(STREAM, {"value": json.dumps({"t0": time.perf_counter()})})
        await asyncio.sleep(0.002)
    while len(late) < count:  # noqa: ASYNC110 - the last records are still on their way
        await asyncio.sleep(0.01)
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    await client.aclose()
    return statistics.median(late) * 1000


async def bare_receive(client: Any, late: list[float]) -> None:
    """Read with redis-py alone."""
    while True:
        answer = await client.xreadgroup("bare", "c", {STREAM: ">"}, count=PAGE, block=1000)
        for position, fields in answer[0][1] if answer else ():
            late.append(time.perf_counter() - json.loads(fields[b"value"])["t0"])
            await client.xack(STREAM, "bare", position)


def smw_receive(url: str) -> Callable[[Any, list[float]], Coroutine[Any, Any, None]]:
    """Return what reads with a served handler."""

    async def receive(_client: Any, late: list[float]) -> None:
        served = pipeline.Pipeline(redis_url=url)

        @served.stream_process(STREAM)
        async def handle(event: dict[str, Any]) -> None:
            late.append(time.perf_counter() - event["t0"])

        try:
            await served.serve(STREAM)
        finally:
            await served.aclose()

    return receive


def median(rounds: int, once: Callable[[], Coroutine[Any, Any, float]]) -> float:
    """Return the median of some runs, each in an event loop of its own."""
    return statistics.median(asyncio.run(once()) for _ in range(rounds))


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Measure; rows about a server that cannot be had are left out."""
    count, rounds = (2_000, 1) if quick else (20_000, 3)
    bare = median(rounds, lambda: bare_queue(count))
    ours = median(rounds, lambda: smw_memory(count))
    rows = [
        Row("drain in memory", "asyncio.Queue by hand", bare, "records/s"),
        Row("drain in memory", "smw", ours, "records/s", ours / bare),
    ]
    for keys in (500, 20):
        rate, disorder = asyncio.run(waiting(2_000, keys))
        target = f">= {10_000 if keys == 500 else 3_412} records/s"
        task = f"handlers wait 1-9 ms, {keys} keys"
        rows.append(Row(task, "smw", rate, "records/s", None, target))
        rows.append(Row(task, "smw, out of order", disorder, "records", None, "<= 0 records"))
    rows += _kafka.rows(event, Event, Clocked, count=2 * count, rounds=rounds)
    found = locate(SPECS["redis"], fetch=False)
    if not isinstance(found, Found):
        return rows
    server = launch(SPECS["redis"], found)
    try:
        bare = median(rounds, lambda: bare_redis(server.url, count))
        ours = median(rounds, lambda: smw_redis(server.url, count))
        sent = count // 20
        bare_ms = asyncio.run(paced(server.url, sent, bare_receive))
        ours_ms = asyncio.run(paced(server.url, sent, smw_receive(server.url)))
    finally:
        server.close()
    task = "drain a Redis Stream"
    rows.append(Row(task, "redis-py, COUNT 100, one XACK a page", bare, "records/s"))
    rows.append(Row(task, "smw, at least once, order per key", ours, "records/s", ours / bare, ">= 0.58"))
    rows.append(Row("from XADD to the handler, 500/s", "redis-py", bare_ms, "ms"))
    rows.append(Row("from XADD to the handler, 500/s", "smw", ours_ms, "ms", ours_ms / bare_ms, "<= 0.4 ms"))
    return rows
