"""The same function over any iterable: same retries, same dead letters, no broker."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from smw import pipeline
from smw.errors import RecordError


async def test_what_became_of_the_records():
    """The summary counts, keeps dead records whole, and has the results in order when asked for."""
    own = pipeline.Pipeline()

    @own.stream_process("s", retry=pipeline.Retry(times=1, first=0.0))
    async def handler(event: int, ctx):
        await asyncio.sleep(0.001 * (5 - event))
        if event == 2 or (event == 3 and ctx.attempt == 1):
            raise ValueError(event)
        return event * 10

    summary = await own.run_over("s", [0, 1, 2, 3, "x"], results=True)
    assert (summary.name, summary.done, summary.retried) == ("s", 3, 2)
    assert summary.results == [0, 10, None, 30, None]
    assert sorted((str(letter.value), letter.reason, letter.attempts) for letter in summary.dead) == [
        ("2", "failed", 2),
        ("x", "refused", 1),
    ]


async def test_any_iterable():
    """Lists, generators, async generators, bytes as they come from a stream, and nothing at all."""
    own = pipeline.Pipeline()
    got = []
    own.stream_process("s")(got.append)

    async def source():
        for number in range(3):
            yield number

    for records, wanted in (
        ((n for n in range(3)), [0, 1, 2]),
        (source(), [0, 1, 2]),
        ([b'{"a":1}'], [{"a": 1}]),
        ([], []),
    ):
        got.clear()
        assert (await own.run_over("s", records)).done == len(wanted)
        assert sorted(got, key=str) == wanted, "records without a key may overtake each other"


async def test_keys_order_the_records():
    """With `key=` the records of one key are handled one after the other."""
    own = pipeline.Pipeline()
    seen = []

    @own.stream_process("s")
    async def handler(event):
        await asyncio.sleep(0.001 if event < 10 else 0)
        seen.append(event)

    await own.run_over("s", range(20), key=lambda event: str(event % 2))
    assert [n for n in seen if n % 2] == list(range(1, 20, 2))


async def test_a_source_that_raises():
    """Its error comes out; what was taken before is finished."""
    own = pipeline.Pipeline()
    got = []
    own.stream_process("s")(got.append)

    async def source():
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await own.run_over("s", source())
    assert got in ([], [1])


async def test_a_broken_handler_ends_the_run():
    """More dead records than the buffer holds mean that the handler is broken."""
    own = pipeline.Pipeline(stream_buffer_size=5)

    @own.stream_process("s", retry=pipeline.Retry(times=0))
    async def handler(event):
        raise ValueError

    with pytest.raises(RecordError, match="more than 5 records"):
        await own.run_over("s", range(100))


async def test_without_dead_letters_the_first_failure_ends_the_run():
    """`dead_letter=False` means the same as in serve."""
    own = pipeline.Pipeline()

    @own.stream_process("s", retry=pipeline.Retry(times=0), dead_letter=False)
    async def handler(event):
        raise ValueError

    with pytest.raises(RecordError, match="stops at record 0"):
        await own.run_over("s", range(3))


async def test_memory_stays_bounded():
    """A long generator goes through a small buffer."""
    own = pipeline.Pipeline(stream_buffer_size=100)

    @own.stream_process("s")
    async def handler(event: str): ...

    tracemalloc.start()
    summary = await own.run_over("s", ("x" * 1000 for _ in range(20_000)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert summary.done == 20_000
    assert peak < 2_000_000
