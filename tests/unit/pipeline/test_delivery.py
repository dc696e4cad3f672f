"""The rules of delivery: at least once, order per key, bounded retries, dead letters, a graceful end."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging

import pytest

from smw import pipeline
from smw._kernel.signals import RecordDead, RecordDone, RecordRetried
from smw.errors import BackpressureError, ConfigError, RecordError
from smw.testing import Recorded
from tests.unit.pipeline.virtual import virtually

FAST = pipeline.Retry(first=0.001, cap=0.002)


async def emitted(own, values, key=None):
    for value in values:
        await own.emit("s", value, key=key(value) if key else None)


def test_six_attempts_in_about_half_a_minute_then_a_dead_letter():
    """By default a record is tried at once and after 1, 2, 4, 8 and 15 s, each a little later, never earlier."""

    async def main(host):
        own = pipeline.Pipeline(host=host)
        times = []

        @own.stream_process("s")
        async def handler(event):
            times.append(host.clock.now())
            raise ValueError("always")

        await own.emit("s", {"a": 1}, key="k", headers={"h": "1"})
        await own.serve("s", until_empty=True)
        return times, await own.dead_letters("s")

    (times, dead), _ = virtually(main)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    for gap, least in zip(gaps, (1, 2, 4, 8, 15), strict=True):
        assert least <= gap <= least * 1.25 + 0.01
    (letter,) = dead
    assert (letter.reason, letter.attempts, letter.error) == ("failed", 6, "ValueError: always")
    assert (letter.value, letter.key, letter.headers, letter.stream, letter.position) == (
        b'{"a":1}', "k", {"h": "1"}, "s", "1",
    )  # fmt: skip


async def test_a_poison_message_neither_loops_nor_vanishes():
    """Of ten records one always raises and one is no JSON: eight are done, two are dead letters, nothing is left."""
    own = pipeline.Pipeline()
    calls = []

    @own.stream_process("s", retry=FAST)
    def handler(event: dict):
        calls.append(event["n"])
        if event["n"] == 3:
            raise ValueError(event)

    for number in range(10):
        await own.emit("s", b"{broken" if number == 6 else {"n": number})
    with Recorded_of(own) as recorded:
        await own.serve("s", until_empty=True)
    dead = {letter.value: (letter.reason, letter.attempts) for letter in await own.dead_letters("s")}
    assert dead == {b'{"n":3}': ("failed", 6), b"{broken": ("refused", 1)}
    assert sorted(set(calls)) == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert calls.count(3) == 6
    assert own._sources._hub.queue("s").unsettled == 0
    assert len(recorded.of(RecordDone)) == 8
    assert [signal.attempt for signal in recorded.of(RecordRetried)] == [2, 3, 4, 5, 6]
    assert sorted(signal.reason for signal in recorded.of(RecordDead)) == ["failed", "refused"]


class Recorded_of:  # noqa: N801 - reads as a function
    def __init__(self, own):
        self.recorded = Recorded(own.host)

    def __enter__(self):
        return self.recorded

    def __exit__(self, *_):
        self.recorded.end()


async def test_a_handler_can_refuse_a_record():
    """Raising RecordError says that trying again is useless."""
    own = pipeline.Pipeline()
    calls = []

    @own.stream_process("s")
    async def handler(event):
        calls.append(event)
        raise RecordError("X-1", "not for me")

    await own.emit("s", 1)
    await own.serve("s", until_empty=True)
    (letter,) = await own.dead_letters("s")
    assert (letter.reason, letter.error, len(calls)) == ("refused", "RecordError: not for me", 1)


async def test_without_dead_letters_the_worker_stops_and_the_record_stays():
    """`dead_letter=False` ends serve with the cause; the next worker, perhaps a mended one, tries once more."""
    own = pipeline.Pipeline()
    attempts = []

    @own.stream_process("s", retry=pipeline.Retry(times=1, first=0.001), dead_letter=False)
    async def handler(event, ctx):
        attempts.append(ctx.attempt)
        raise KeyError("cause")

    await own.emit("s", 1)
    with pytest.raises(RecordError, match="stops at record 1") as caught:
        await own.serve("s")
    assert isinstance(caught.value.__cause__, KeyError)
    assert own._sources._hub.queue("s").unsettled == 1
    with pytest.raises(RecordError, match="failed at attempt 3"):
        await own.serve("s")
    assert attempts == [1, 2, 3]


def test_a_failing_key_parks_only_itself():
    """While one key waits for its retries, its later records wait too, and all other keys go on."""

    async def main(host):
        own = pipeline.Pipeline(host=host)
        done = []

        @own.stream_process("s")
        async def handler(event, ctx):
            if event == ["bad", 0] and ctx.attempt < 4:
                raise ValueError
            done.append((tuple(event), round(host.clock.now())))

        await emitted(own, [[key, n] for n in range(3) for key in ("bad", "good")], key=lambda value: value[0])
        await own.serve("s", until_empty=True)
        return done

    done, _ = virtually(main)
    assert [what for what, at in done if at < 1] == [("good", 0), ("good", 1), ("good", 2)]
    assert [what for what, at in done if at >= 7] == [("bad", 0), ("bad", 1), ("bad", 2)]


async def test_keys_run_side_by_side_each_in_order():
    """Handlers of different keys overlap; those of one key never do."""
    own = pipeline.Pipeline()
    running, most, seen = set(), 0, []

    @own.stream_process("s")
    async def handler(event):
        nonlocal most
        key = event % 5
        assert key not in running
        running.add(key)
        most = max(most, len(running))
        await asyncio.sleep(0.005)
        running.discard(key)
        seen.append(event)

    await emitted(own, range(50), key=lambda value: str(value % 5))
    await own.serve("s", until_empty=True)
    assert most == 5
    for key in range(5):
        assert [n for n in seen if n % 5 == key] == list(range(key, 50, 5))


async def test_records_without_a_key_do_not_wait_for_each_other():
    """Up to the cap they run at once."""
    own = pipeline.Pipeline()
    gate, started = asyncio.Event(), 0

    @own.stream_process("s")
    async def handler(event):
        nonlocal started
        started += 1
        if started == 40:
            gate.set()
        await asyncio.wait_for(gate.wait(), 5)

    await emitted(own, range(40))
    await own.serve("s", until_empty=True)
    assert started == 40


async def test_no_more_handlers_at_a_time_than_the_cap():
    """The cap on running handlers holds."""
    own, full = pipeline.Pipeline(), asyncio.Event()
    running = most = 0

    @own.stream_process("s")
    async def handler(event):
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 256:
            full.set()
        await asyncio.wait_for(full.wait(), 20)
        await asyncio.sleep(0.02)
        running -= 1

    await emitted(own, range(600))
    await asyncio.wait_for(own.serve("s", until_empty=True), 60)
    assert most == 256


async def test_sync_handlers_do_not_block_the_loop():
    """They run in threads: the loop goes on while they wait for it."""
    own = pipeline.Pipeline()
    loop = asyncio.get_running_loop()

    @own.stream_process("s")
    def handler(event):
        assert asyncio.run_coroutine_threadsafe(answer(event), loop).result(5) == event + 1
        seen.append(event)

    async def answer(value):
        return value + 1

    seen = []
    await emitted(own, range(10), key=lambda value: "k")
    await own.serve("s", until_empty=True)
    assert seen == list(range(10))


@pytest.mark.parametrize("error", [StopIteration("x"), asyncio.CancelledError("mine"), TimeoutError("t")])
@pytest.mark.parametrize("is_async", [True, False])
async def test_odd_exceptions_are_failures_like_others(error, is_async):
    """What a handler lets slip, even a cancellation of its own making, is retried and then dead."""
    own = pipeline.Pipeline()
    calls = []

    async def awaited(event):
        calls.append(event)
        raise error

    def plain(event):
        calls.append(event)
        raise error

    own.stream_process("s", retry=pipeline.Retry(times=1, first=0.0))(awaited if is_async else plain)
    await own.emit("s", 1)
    await asyncio.wait_for(own.serve("s", until_empty=True), 5)
    (letter,) = await own.dead_letters("s")
    assert (letter.reason, len(calls)) == ("failed", 2)


async def test_each_record_has_a_context_of_its_own():
    """Context variables that a handler sets are gone for the next record; those of serve are there."""
    own = pipeline.Pipeline()
    outer = contextvars.ContextVar("outer", default=None)
    inner = contextvars.ContextVar("inner", default=None)
    seen = []

    @own.stream_process("s")
    async def handler(event):
        seen.append((outer.get(), inner.get()))
        inner.set(event)
        await asyncio.sleep(0)
        assert inner.get() == event

    await emitted(own, range(3), key=lambda value: "k")
    outer.set("serve")
    await own.serve("s", until_empty=True)
    assert seen == [("serve", None)] * 3


async def test_timeouts_work_inside_handlers():
    """The handler's task is a real one: its time-outs cancel the handler, not the worker."""
    own = pipeline.Pipeline()
    done = []

    @own.stream_process("s", retry=FAST)
    async def handler(event, ctx):
        if ctx.attempt == 1:
            async with asyncio.timeout(0.005):
                await asyncio.sleep(10)
        done.append(ctx.attempt)

    await emitted(own, range(3), key=lambda value: "k")
    await asyncio.wait_for(own.serve("s", until_empty=True), 5)
    assert done == [2, 2, 2]


async def test_what_travels_with_a_record():
    """`carry` fills the headers of emit, `restore` is entered around the handling."""
    current = contextvars.ContextVar("trace", default="")

    class Restored:
        def __init__(self, headers):
            self.value = headers["trace"]

        def __enter__(self):
            current.set(self.value)

        def __exit__(self, *_):
            left.append(self.value)

    def carry(headers):
        headers["trace"] = f"t{len(headers)}"

    own = pipeline.Pipeline(carry=carry, restore=Restored)
    seen, left = [], []

    @own.stream_process("s")
    async def handler(event):
        seen.append(current.get())

    await own.emit("s", 1)
    await own.emit("s", 2, headers={"mine": "x"})
    await own.serve("s", until_empty=True)
    assert seen == left == ["t0", "t1"]


async def test_many_records_a_call():
    """A handler of lists gets what is there, up to the batch size, in order."""
    own = pipeline.Pipeline(batch_size=4)
    calls = []

    @own.stream_process("s")
    async def handler(events: list[int]):
        calls.append(events)

    await emitted(own, range(10), key=lambda value: str(value % 3))
    await own.serve("s", until_empty=True)
    assert sorted(itertools.chain(*calls)) == list(range(10))
    assert max(len(call) for call in calls) == 4
    for key in range(3):
        assert [n for n in itertools.chain(*calls) if n % 3 == key] == list(range(key, 10, 3))


async def test_one_bad_record_does_not_take_its_batch_along():
    """When a call with many fails they are tried one by one: only the bad one dies; the unfit one dies unseen."""
    own = pipeline.Pipeline()
    calls = []

    @own.stream_process("s", retry=FAST)
    async def handler(events: list[int]):
        calls.append(events)
        if 5 in events:
            raise ValueError

    await emitted(own, [*range(8), "x"], key=lambda value: "k")
    await own.serve("s", until_empty=True)
    dead = {letter.value: letter.reason for letter in await own.dead_letters("s")}
    assert dead == {b"5": "failed", b'"x"': "refused"}
    assert calls[0] == list(range(8))
    assert [call for call in calls[1:] if call != [5]] == [[n] for n in range(8) if n != 5]


async def test_stop_lets_running_handlers_finish():
    """After `stop` nothing new starts, what runs is finished and settled, the rest is handed to the next worker."""
    own = pipeline.Pipeline()
    running, release, done = asyncio.Event(), asyncio.Event(), []

    @own.stream_process("s")
    async def handler(event):
        running.set()
        await release.wait()
        done.append(event)

    await emitted(own, range(5), key=lambda value: "k")
    serving = asyncio.create_task(own.serve("s"))
    await running.wait()
    own.stop("s")
    await asyncio.sleep(0.01)
    assert not serving.done()
    release.set()
    await asyncio.wait_for(serving, 2)
    assert done == [0]
    await own.serve("s", until_empty=True)
    assert done == [0, 1, 2, 3, 4]


async def test_a_stop_event_and_cancelling_stop_as_well():
    """An event given to serve, and cancelling its task, end it the same way; a cancellation stays one."""
    own = pipeline.Pipeline()
    done, running = [], asyncio.Event()

    @own.stream_process("s")
    async def handler(event):
        running.set()
        await asyncio.sleep(0.01)
        done.append(event)

    await own.emit("s", 1)
    stop = asyncio.Event()
    serving = asyncio.create_task(own.serve("s", stop=stop))
    await running.wait()
    stop.set()
    await asyncio.wait_for(serving, 2)
    running.clear()
    await own.emit("s", 2)
    serving = asyncio.create_task(own.serve("s"))
    await running.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert done == [1, 2]
    assert own._sources._hub.queue("s").unsettled == 0


async def test_a_handler_that_does_not_end_is_left_after_the_bound():
    """Stopping waits `drain_s`, then cancels; the record is unsettled and comes again."""
    own = pipeline.Pipeline(drain_s=0.02)
    running, cancelled = asyncio.Event(), []

    @own.stream_process("s")
    async def handler(event, ctx):
        if ctx.attempt > 1:
            return
        running.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(event)
            raise

    await own.emit("s", 1)
    serving = asyncio.create_task(own.serve("s"))
    await running.wait()
    own.stop()
    await asyncio.wait_for(serving, 2)
    assert cancelled == [1]
    assert own._sources._hub.queue("s").unsettled == 1
    await own.serve("s", until_empty=True)
    assert own._sources._hub.queue("s").unsettled == 0


async def test_closing_stops_what_is_served():
    """`aclose` ends serve gracefully and may be called twice."""
    own = pipeline.Pipeline()
    own.stream_process("s")(lambda event: None)
    serving = asyncio.create_task(own.serve("s"))
    await asyncio.sleep(0.01)
    await own.aclose()
    await own.aclose()
    await asyncio.wait_for(serving, 1)
    assert serving.exception() is None


async def test_a_full_stream_pushes_back():
    """Emit waits for room, then says that nothing was accepted; room helps it on."""
    own = pipeline.Pipeline(stream_buffer_size=3, emit_timeout_s=0.05)
    got = []
    own.stream_process("s")(got.append)
    await emitted(own, range(3))
    with pytest.raises(BackpressureError, match="is full") as caught:
        await own.emit("s", 3)
    assert caught.value.fix
    assert own._sources._hub.queue("s").unsettled == 3
    roomy = pipeline.Pipeline(stream_buffer_size=3)
    roomy.stream_process("s")(got.append)
    await emitted(roomy, range(3))
    waiting = asyncio.create_task(roomy.emit("s", 3))
    await asyncio.sleep(0.01)
    await roomy.serve("s", until_empty=True)
    assert await asyncio.wait_for(waiting, 2) == "4"


async def test_full_dead_letters_hold_the_record_back():
    """Where the dead letters have no room, the record stays unsettled until they have, and is never dropped."""
    own = pipeline.Pipeline(stream_buffer_size=2)

    @own.stream_process("s", retry=pipeline.Retry(times=0))
    async def handler(event):
        raise ValueError

    taken = []
    own.stream_process("s.dlq")(taken.append)
    for number in range(2):
        await own.emit("s", number)
        await own.serve("s", until_empty=True)
    await own.emit("s", 2)
    serving = asyncio.create_task(own.serve("s"))
    await asyncio.sleep(0.05)
    assert own._sources._hub.queue("s").unsettled == 1
    await own.serve("s.dlq", until_empty=True)
    for _ in range(300):
        if not own._sources._hub.queue("s").unsettled:
            break
        await asyncio.sleep(0.01)
    own.stop()
    await serving
    await own.serve("s.dlq", until_empty=True)
    assert sorted(letter["value"] for letter in taken) == ["0", "1", "2"]


async def test_unknown_names_and_sources():
    """Errors name the nearest registered stream, and the sources there are."""
    own = pipeline.Pipeline()
    own.stream_process("user_events")(lambda event: None)
    own.batch_transform("rows")(lambda rows: rows)
    for wrong in (own.emit("user_event", 1), own.serve("user_event"), own.run_over("user_event", [])):
        with pytest.raises(ConfigError, match="Did you mean 'user_events'"):
            await wrong
    with pytest.raises(ConfigError, match="no function is registered for the stream 'rows'"):
        await own.serve("rows")
    with pytest.raises(ConfigError, match="which Redis"):
        await own.serve("user_events", source="redis")
    with pytest.raises(ConfigError, match="Did you mean 'memory'"):
        await own.serve("user_events", source="memroy")
    with pytest.raises(ConfigError, match=r"methods of pipeline\.Stream"):
        await own.serve("user_events", source=object())


async def test_a_stream_of_ones_own_is_a_source():
    """Any object with the port's methods can be served."""
    other = pipeline.Pipeline()
    stream = other._sources._hub.stream("elsewhere")
    await stream.append([pipeline.Entry(b"1")])
    own, got = pipeline.Pipeline(), []
    own.stream_process("s", source=stream)(got.append)
    await own.serve("s", until_empty=True)
    assert got == [1]


async def test_figures():
    """Facts count what became of the records."""
    own = pipeline.Pipeline()

    @own.stream_process("s", retry=pipeline.Retry(times=1, first=0.0))
    async def handler(event):
        if event == 0:
            raise ValueError

    await emitted(own, range(3))
    await own.serve("s", until_empty=True)
    facts = {(fact.name, dict(fact.labels).get("outcome")): fact.value for fact in own.host.facts}
    assert facts["smw_stream_records_total", "emitted"] == 3
    assert facts["smw_stream_records_total", "done"] == 2
    assert facts["smw_stream_records_total", "retried"] == 1
    assert facts["smw_stream_records_total", "dead"] == 1
    assert facts["smw_stream_in_flight", None] == 0


async def test_logs_name_the_record_and_never_its_content(caplog):
    """What the log says of a dead record is position, reason and type of the error."""
    own = pipeline.Pipeline()

    @own.stream_process("s", retry=pipeline.Retry(times=0))
    async def handler(event):
        raise ValueError("secret " + event)

    with caplog.at_level(logging.DEBUG, "smw.pipeline"):
        await own.emit("s", "person")
        await own.serve("s", until_empty=True)
    text = caplog.text
    assert "record 1 became a dead letter: failed, ValueError" in text
    assert "secret" not in text
    assert "person" not in text
