"""What delivery costs: draining a stream through a handler beside clients that promise less, and beside FastStream."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks import _kafka, _redis_drain
from benchmarks._events import STREAM, Clocked, Event, event, key
from benchmarks._peers import NoServerError, serving
from benchmarks._table import Row, absent, compared, in_turns
from smw import pipeline
from smw.pipeline.ports import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

NAME = "pipeline"
PAGE = 100


async def bare_queue(count: int) -> float:
    """Drain an asyncio queue by hand."""
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    for number in range(count):
        queue.put_nowait(event(number))
    clock = Clocked(count)

    async def handle(_event: Event) -> None:
        clock.tick()

    for _ in range(count):
        await handle(Event.model_validate_json(await queue.get()))
    return clock.rate


async def smw_memory(count: int) -> float:
    """Drain the in-memory stream, by the keys of the events' users."""
    served = pipeline.Pipeline(stream_buffer_size=count)
    clock = Clocked(count, lambda: served.stop(STREAM))

    @served.stream_process(STREAM)
    async def handle(_event: Event) -> None:
        clock.tick()

    writer = served._sources.writer(STREAM, None)  # noqa: SLF001 - filling is not what is measured
    await writer.append([Entry(event(number), key(number)) for number in range(count)])
    await served.serve(STREAM)
    await served.aclose()
    return clock.rate


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
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(url)
    await client.delete(STREAM)
    await client.xgroup_create(STREAM, "bare", id="0", mkstream=True)
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


def in_memory(count: int, rounds: int) -> list[Row]:
    """Measure what needs no server."""
    by_hand = "asyncio.Queue by hand"
    systems = {by_hand: lambda: asyncio.run(bare_queue(count)), "smw": lambda: asyncio.run(smw_memory(count))}
    rows = compared("drain in memory", in_turns(systems, rounds, max), "records/s", by_hand)
    for keys in (500, 20):
        runs = [asyncio.run(waiting(2_000, keys)) for _ in range(5)]
        rate, disorder = max(rate for rate, _ in runs), max(disorder for _, disorder in runs)
        target = f">= {10_000 if keys == 500 else 3_412} records/s"
        task = f"handlers wait 1-9 ms, {keys} keys"
        rows.append(Row(task, "smw", rate, "records/s", None, target))
        rows.append(Row(task, "smw, out of order", disorder, "records", None, "<= 0 records"))
    return rows


def latency(url: str, sent: int, rounds: int) -> list[Row]:
    """Measure how soon a handler has a record (task T2)."""
    systems = {
        "redis-py": lambda: asyncio.run(paced(url, sent, bare_receive)),
        "smw": lambda: asyncio.run(paced(url, sent, smw_receive(url))),
    }
    figures = in_turns(systems, rounds, min)
    return compared("from XADD to the handler, 500/s", figures, "ms", "redis-py", {"smw": "<= 0.4 ms"})


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Measure; a task whose server cannot be had is listed."""
    count, rounds = (2_000, 1) if quick else (20_000, 5)
    rows = in_memory(count, rounds)
    try:
        with serving("redis") as place:
            rows += _redis_drain.rows(place.url, count=count, rounds=rounds)
            rows += latency(place.url, count // 20, min(rounds, 3))
    except NoServerError as error:
        rows.append(absent(_redis_drain.TASK, "everybody", str(error)))
    try:
        with serving("kafka") as place:
            rows += _kafka.rows(place.url, count=2 * count, rounds=min(rounds, 3))
    except NoServerError as error:
        rows.append(absent(_kafka.TASK, "everybody", str(error)))
    return rows
