"""Serving Kafka topics for real: workers that join, leave and die, brokers that restart, and what stays in order."""

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
from tests.integration.pipeline.waiting import until
from tests.services import kafka

pytestmark = [pytest.mark.service("kafka"), pytest.mark.timed]  # a reader counts as dead after 1.5 s
WORKER = Path(__file__).with_name("kafka_worker.py")
FAST = pipeline.Retry(times=2, first=0.005, cap=0.01)


def make_topic(url, name, partitions):
    """Make a topic with so many partitions."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=url)
    admin.create_topics({name: {"num_partitions": partitions}})
    admin.close()


def committed(url, group, topic):
    """Return what a group has committed of a topic, over all partitions."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=url)
    offsets = admin.list_group_offsets([group])[group]
    admin.close()
    return sum(found.offset for partition, found in offsets.items() if partition.topic == topic)


class Workers:
    """Worker processes and the file they write into."""

    def __init__(self, url, stream, folder):
        self.url, self.stream, self.log = url, stream, folder / "log"
        self.log.touch()
        self.running = []

    def start(self, behaviour="plain"):
        command = [sys.executable, str(WORKER), self.url, self.stream, behaviour, str(self.log)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        self.running.append(process)
        return process

    def lines(self, word):
        return [line.split()[1:] for line in self.log.read_text().splitlines() if line.startswith(f"{word} ")]

    def done(self):
        return [int(line[0]) for line in self.lines("done")]


@pytest.fixture
def workers(kafka_server, stream, tmp_path):
    """Start worker processes; those that still run at the end are killed."""
    made = Workers(kafka_server.url, stream, tmp_path)
    yield made
    for process in made.running:
        process.kill()
        process.communicate()


@pytest.fixture
def refused(caplog):
    """Allow for refused connections: log records that are kept would hold their sockets."""
    caplog.set_level(logging.CRITICAL, "kafka")
    yield
    kafka.collected()


async def test_emit_and_serve(on_kafka, stream, kafka_server):
    """What is emitted is handled in order per key and committed when the worker leaves."""
    own = on_kafka()
    seen = []

    @own.stream_process(stream, group="g")
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
    assert committed(kafka_server.url, "g", stream) == 51


async def test_dead_letters(on_kafka, stream):
    """Poison bytes are given up at the first look, a failing record after its attempts; both are whole in the topic."""
    own = on_kafka()
    calls = []

    @own.stream_process(stream, retry=FAST)
    def handle(event: int):
        calls.append(event)
        raise ValueError(event)

    await own.emit(stream, 1, key="k")
    await own.emit(stream, b"\xff\x00")
    await own.serve(stream, until_empty=True)
    letters = {letter.value: letter for letter in await own.dead_letters(stream)}
    assert {value: (letter.reason, letter.attempts) for value, letter in letters.items()} == {
        b"1": ("failed", 3),
        b"\xff\x00": ("refused", 1),
    }
    assert calls == [1, 1, 1]
    await own.serve(stream, until_empty=True)
    assert calls == [1, 1, 1]


async def test_a_failing_key_parks_only_its_own_lane(on_kafka, stream):
    """While one key waits for its retry the others go on, and what is done beyond it is not done again."""
    own = on_kafka()
    seen, failures = [], []

    @own.stream_process(stream, retry=pipeline.Retry(times=1, first=1.0))
    def handle(event: int):
        if event == 0 and not failures:
            failures.append(time.monotonic())
            raise ValueError
        seen.append(event)

    for number in range(100):
        await own.emit(stream, number, key=str(number % 10))
    await own.serve(stream, until_empty=True)
    assert sorted(seen) == list(range(100))
    zero = seen.index(0)
    assert {number % 10 for number in seen[:zero]} == set(range(1, 10))
    assert zero == 90


async def test_readers_join_and_leave_without_loss_or_disorder(on_kafka, stream, workers, kafka_server):
    """Workers come and go while records flow: all are handled, in order per key wherever nobody died."""
    make_topic(kafka_server.url, stream, 6)
    own = on_kafka()
    own.stream_process(stream)(lambda event: None)
    first = workers.start()

    async def feed():
        for number in range(1_200):
            await own.emit(stream, number, key=str(number % 40))

    feeding = asyncio.create_task(feed())
    await until(lambda: len(workers.done()) > 100)
    second = workers.start()
    await until(lambda: len(workers.done()) > 500)
    first.send_signal(signal.SIGTERM)
    assert (await asyncio.to_thread(first.communicate, timeout=20))[0] == "left\n"
    assert first.returncode == 0
    await feeding
    await until(lambda: set(workers.done()) == set(range(1_200)))
    second.terminate()
    assert (await asyncio.to_thread(second.communicate, timeout=20))[0] == "left\n"
    assert len(workers.done()) == 1_200
    for key in range(40):
        mine = [number for number in workers.done() if number % 40 == key]
        assert mine == sorted(mine)


async def test_two_workers_and_one_is_killed(on_kafka, stream, workers, kafka_server):
    """SIGKILL of one of two worker processes: the other takes over, every record is handled."""
    make_topic(kafka_server.url, stream, 4)
    own = on_kafka()
    own.stream_process(stream)(lambda event: None)
    doomed, other = workers.start(), workers.start()
    for number in range(400):
        await own.emit(stream, number, key=str(number))
    await until(lambda: len(workers.done()) > 50)
    doomed.kill()
    await until(lambda: set(workers.done()) == set(range(400)))
    other.terminate()
    assert (await asyncio.to_thread(other.communicate, timeout=20))[0] == "left\n"


async def test_sigterm_loses_nothing_and_repeats_nothing(on_kafka, stream, workers):
    """A worker that is told to end finishes and commits what runs; the rest comes to the next one, nothing twice."""
    own = on_kafka()
    seen = []
    own.stream_process(stream)(seen.append)
    for number in range(0, 2_000, 100):
        await asyncio.gather(*(own.emit(stream, n) for n in range(number, number + 100)))
    worker = workers.start()
    await until(lambda: len(workers.done()) > 100)
    worker.send_signal(signal.SIGTERM)
    assert (await asyncio.to_thread(worker.communicate, timeout=20))[0] == "left\n"
    assert worker.returncode == 0
    first = workers.done()
    assert len(first) < 2_000
    await own.serve(stream, until_empty=True)
    assert sorted(first + seen) == list(range(2_000))


async def test_a_record_that_kills_its_worker_is_not_tried_for_ever(on_kafka, stream, workers):
    """After as many crashes as attempts are allowed the next worker buries it, and the rest is done."""
    own = on_kafka()
    done = []

    @own.stream_process(stream, retry=FAST)
    async def handle(event: int):
        done.append(event)

    for number in range(6):
        await own.emit(stream, number)
    for _ in range(3):
        worker = workers.start("crash")
        await asyncio.to_thread(worker.communicate, timeout=30)
        assert worker.returncode == 9
    await own.serve(stream, until_empty=True)
    (letter,) = await own.dead_letters(stream)
    assert (letter.value, letter.reason, letter.attempts) == (b"3", "crashed", 3)
    assert set(done) | set(workers.done()) == {0, 1, 2, 4, 5}


async def test_a_full_buffer_pauses_fetching_and_stays_in_the_group(on_kafka, stream):
    """With more records than room, a slow handler is never taken for dead, and everything is handled once."""
    own = on_kafka(stream_buffer_size=20)
    seen = []

    @own.stream_process(stream)
    async def handle(event: int):
        await asyncio.sleep(0.25)
        seen.append(event)

    feeder = on_kafka()
    feeder.stream_process(stream)(lambda event: None)
    await asyncio.gather(*(feeder.emit(stream, number) for number in range(200)))
    await own.serve(stream, until_empty=True)
    assert sorted(seen) == list(range(200))


async def test_the_lag_is_measured(on_kafka, stream):
    """The tally of a served stream shows what nobody has settled."""
    own = on_kafka()
    hold = asyncio.Event()

    @own.stream_process(stream)
    async def handle(event: int):
        await hold.wait()

    for number in range(5):
        await own.emit(stream, number)
    serving = asyncio.create_task(own.serve(stream))
    tally = own._tally(stream)
    await until(lambda: tally.lag == 5)
    hold.set()
    await until(lambda: tally.lag == 0)
    own.stop()
    await serving


async def test_the_brokers_come_from_the_environment(kafka_server, stream, monkeypatch):
    """`KAFKA_BROKERS` alone makes Kafka the place of streams."""
    import smw

    monkeypatch.setenv("KAFKA_BROKERS", kafka_server.url)
    own = smw.configure("testing", service="music").pipeline
    own.stream_process(stream)(lambda event: None)
    assert (await own.emit(stream, 1)).startswith("0-")
    await own.aclose()
    smw.shutdown()


def test_kafka_without_brokers_says_what_is_missing():
    """`source="kafka"` without brokers names the setting."""
    own = pipeline.Pipeline()
    own.stream_process("s", source="kafka")(lambda event: None)
    with pytest.raises(ConfigError, match="which brokers") as caught:
        asyncio.run(own.serve("s"))
    assert "kafka_brokers" in caught.value.fix


async def test_a_name_that_no_topic_can_have(on_kafka):
    """A stream name with a colon is refused for Kafka, with a name that fits."""
    own = on_kafka()
    own.stream_process("a:b")(lambda event: None)
    with pytest.raises(ConfigError, match="no topic named") as caught:
        await own.emit("a:b", 1)
    assert caught.value.fix == "a.b"


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_a_broker_that_comes_later_goes_and_comes_back(service_factory, refused):
    """Serving starts without a broker and goes on after a restart and a hang; every acknowledged emit is handled."""
    server = service_factory("kafka", begun=False)
    own = pipeline.Pipeline(kafka_brokers=server.url, claim_idle_s=6, emit_timeout_s=1.0)
    recorded = Recorded(own.host)
    seen, accepted = set(), []
    own.stream_process("s")(seen.add)
    serving = asyncio.create_task(own.serve("s"))
    with pytest.raises(BackpressureError, match="accepted nothing within"):
        await own.emit("s", -1)
    await until(lambda: any(isinstance(one, BackendDown) for one in recorded.all))
    await asyncio.to_thread(server.start)

    async def accept(number):
        while True:
            try:
                await own.emit("s", number)
            except BackpressureError:
                continue
            accepted.append(number)
            return

    for number in range(60):
        await accept(number)
        if number == 30:
            server.kill()
            with pytest.raises(BackpressureError):
                await own.emit("s", -2)
            await asyncio.to_thread(server.start)
    await until(lambda: seen >= set(accepted), 40)
    server.pause()
    started = time.monotonic()
    with pytest.raises(BackpressureError):
        await own.emit("s", -3)
    assert time.monotonic() - started < 4
    server.resume()
    await accept(60)
    await until(lambda: 60 in seen, 40)
    own.stop()
    await asyncio.wait_for(serving, 15)
    await own.aclose()
    assert accepted == list(range(61))
    assert any(isinstance(one, BackendUp) for one in recorded.all)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_three_brokers_lose_one(service_factory, refused):
    """With three brokers and one killed midway, nothing that was acknowledged is lost, and everything is handled."""
    brokers = await asyncio.to_thread(kafka.cluster, service_factory)
    own = pipeline.Pipeline(kafka_brokers=",".join(one.url for one in brokers), claim_idle_s=6, emit_timeout_s=10)
    make_topic(brokers[0].url, "s", 6)
    seen, accepted = set(), set()
    own.stream_process("s")(seen.add)
    serving = asyncio.create_task(own.serve("s"))

    async def feed(start):
        for number in range(start, 2_000, 20):
            try:
                await own.emit("s", number, key=str(number))
            except BackpressureError:
                continue
            accepted.add(number)

    feeding = asyncio.gather(*(feed(start) for start in range(20)))
    await until(lambda: len(accepted) > 300)
    brokers[1].kill()
    await asyncio.wait_for(feeding, 60)
    assert len(accepted) > 1_900
    await until(lambda: seen >= accepted, 60)
    own.stop()
    await asyncio.wait_for(serving, 20)
    await own.aclose()
    for one in brokers:
        one.kill()
