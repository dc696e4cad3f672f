"""One pipeline in several threads, event loops and processes."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading

import pytest

from smw import pipeline
from smw.testing import isolated


@pipeline.stream_process("process.pickled")
def pickled(event):
    return event


def test_decorated_functions_travel_by_name():
    """A worker process that unpickles a handler gets its own copy by import."""
    assert pickle.loads(pickle.dumps(pickled)) is pickled


async def test_emitting_from_threads_while_serving():
    """Blocking producers in threads and a worker in the loop share one stream, and nothing is lost."""
    own = pipeline.Pipeline(stream_buffer_size=50)
    seen = []

    @own.stream_process("s")
    async def handle(event):
        seen.append(event)

    def produce(start):
        for number in range(start, start + 100):
            own.emit_sync("s", number, key=str(start))

    serving = asyncio.create_task(own.serve("s"))
    await asyncio.gather(*(asyncio.to_thread(produce, start) for start in (0, 100, 200)))
    while len(seen) < 300:  # noqa: ASYNC110 - the handler of the test only collects
        await asyncio.sleep(0.005)
    await own.aclose()
    await serving
    assert sorted(seen) == list(range(300))
    for start in (0, 100, 200):
        assert [n for n in seen if start <= n < start + 100] == list(range(start, start + 100))


def test_closing_waits_for_a_worker_in_another_thread():
    """`close` from blocking code ends what other threads serve, and returns when they have left."""
    own = pipeline.Pipeline()
    running, done = threading.Event(), []

    @own.stream_process("s")
    async def handle(event):
        running.set()
        await asyncio.sleep(0.05)
        done.append(event)

    own.emit_sync("s", 1)
    thread = threading.Thread(target=lambda: asyncio.run(own.serve("s")))
    thread.start()
    assert running.wait(5)
    own.close()
    assert done == [1]
    thread.join(5)
    assert not thread.is_alive()


def test_one_event_loop_after_another():
    """A second `asyncio.run` finds the records of the first."""
    own, seen = pipeline.Pipeline(), []
    own.stream_process("s")(seen.append)
    for number in range(3):
        asyncio.run(own.emit("s", number))
    asyncio.run(own.serve("s", until_empty=True))
    assert seen == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_none_of_the_parents_records():
    """The parent's in-memory records are the parent's; the child's streams are empty and work."""
    own, seen = pipeline.Pipeline(), []
    own.stream_process("s")(seen.append)
    own.emit_sync("s", "parent")
    pid = os.fork()
    if pid == 0:
        try:
            own.emit_sync("s", "child")
            asyncio.run(own.serve("s", until_empty=True))
            os._exit(0 if seen == ["child"] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    asyncio.run(own.serve("s", until_empty=True))
    own.close()
    assert seen == ["parent"]


def test_a_closed_runtime_ends_what_it_serves():
    """Leaving a runtime's block stops its workers gracefully."""

    @pipeline.stream_process("process.closed")
    async def handle(event):
        await asyncio.sleep(0.01)
        done.append(event)

    async def main():
        with isolated() as runtime:
            await pipeline.emit("process.closed", 1)
            serving = asyncio.create_task(pipeline.serve("process.closed"))
            while not runtime.pipeline._tally("process.closed").in_flight:  # noqa: ASYNC110 - looks from outside
                await asyncio.sleep(0.001)
        await asyncio.wait_for(serving, 5)

    done = []
    asyncio.run(main())
    assert done == [1]
