"""What every stream promises the delivery core, on every implementation."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from smw._kernel.clock import SystemClock, SystemEntropy
from smw.errors import Unavailable
from smw.pipeline.deadletter import DeadLetter
from smw.pipeline.memory import MemoryHub
from smw.pipeline.ports import Entry, Stream
from tests.services import kafka

pytestmark = pytest.mark.timed  # a reader counts as dead soon
IDLE_S = 0.05
numbers = itertools.count()


class Kit:
    """What the tests ask for beyond the port; most implementations have no more to do."""

    idle_s = IDLE_S

    async def wide(self):
        """Return two readers of one stream that both take part in it, and a writer."""
        return self.reader("wide"), self.reader("wide"), self.reader("wide")

    async def durable(self):
        """Wait until what was settled stays settled even if its reader is killed."""


class MemoryKit(Kit):
    """Readers of one in-memory stream; a reader that dies is closed, since nothing outlives its process."""

    def __init__(self, capacity=1000):
        self.hub = MemoryHub(SystemClock(), capacity)
        self.readers = []

    def reader(self, name="s"):
        self.readers.append(self.hub.stream(name))
        return self.readers[-1]

    async def kill(self, reader):
        await reader.close()

    async def end(self):
        for reader in self.readers:
            await reader.close()


class RedisKit(Kit):
    """Readers of one Redis Stream with names of their own; a reader that dies just disconnects."""

    def __init__(self, url):
        self.url = url
        self.prefix = f"contract{next(numbers)}"
        self.readers = []

    def reader(self, name="s"):
        from smw.pipeline.redis import RedisStream

        stream = RedisStream(
            self.url,
            f"{self.prefix}.{name}",
            group="g",
            consumer=f"c{next(numbers)}",
            clock=SystemClock(),
            claim_idle_s=self.idle_s,
        )
        self.readers.append(stream)
        return stream

    async def kill(self, reader):
        self.readers.remove(reader)
        await reader._client.aclose(close_connection_pool=True)
        await asyncio.sleep(IDLE_S * 2)

    async def end(self):
        for reader in self.readers:
            await reader.close()


class KafkaKit(Kit):
    """Readers of one topic; a reader that dies falls silent, until its session ends."""

    def __init__(self, url):
        self.url = url
        self.prefix = f"contract{next(numbers)}"
        self.readers = []

    def reader(self, name="s"):
        from smw.pipeline.kafka import KafkaStream

        stream = KafkaStream(
            (self.url,),
            f"{self.prefix}.{name}",
            group=f"{self.prefix}.{name}.g",
            client_id=f"c{next(numbers)}",
            clock=SystemClock(),
            entropy=SystemEntropy(),
            session_s=1.0,
            grace_s=0.3,
        )
        self.readers.append(stream)
        return stream

    async def wide(self):
        """Return two readers that have one partition each, and a writer."""
        from kafka import KafkaAdminClient

        admin = KafkaAdminClient(bootstrap_servers=self.url)
        admin.create_topics({f"{self.prefix}.wide": {"num_partitions": 2}})
        admin.close()
        readers = self.reader("wide"), self.reader("wide"), self.reader("wide")
        while True:
            for one in readers[:2]:
                await one.poll(1, 0.0)
            consumers = [one._reader._consumer for one in readers[:2]]
            if all(consumer and len(consumer.assignment()) == 1 for consumer in consumers):
                return readers

    async def durable(self):
        await asyncio.sleep(0.4)

    async def kill(self, reader):
        self.readers.remove(reader)
        reading, reader._reader = reader._reader, None
        reading._closing.set()
        net = reading._consumer._net
        sockets = [connection.transport._sock for connection in reading._consumer._manager._conns.values()]
        net.stop(1_000)
        net._closed = True
        await asyncio.to_thread(reading._thread.join, 5)
        net._closed = False
        net.close()
        for socket in filter(None, sockets):
            socket.close()
        reader._writer.close()

    async def end(self):
        for reader in self.readers:
            await reader.close()
        kafka.collected()


KITS = {"redis": RedisKit, "kafka": KafkaKit}


@pytest.fixture(params=["memory", *(pytest.param(name, marks=pytest.mark.service(name)) for name in KITS)])
async def kit(request):
    """Make readers of one implementation."""
    if request.param == "memory":
        made = MemoryKit()
    else:
        made = KITS[request.param](request.getfixturevalue(f"{request.param}_server").url)
    yield made
    await made.end()


def entries(*values, key=None):
    return [Entry(value.encode(), key) for value in values]


async def polled(reader, wanted, wait_s=0.2, most=100):
    """Poll until so many records came; a poll that brings nothing yet is no end."""
    got = []
    for _ in range(100):
        got.extend(await reader.poll(most, wait_s))
        if len(got) >= wanted:
            break
    return got


async def noted(reader, record, attempt):
    """Have an attempt noted; a store that does not take it at once is asked again, as the delivery does."""
    for left in range(20, -1, -1):
        try:
            await reader.defer(record.position, attempt)
        except Unavailable:
            if not left:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def values(records):
    return [record.value.decode() for record in records]


async def test_it_is_a_stream(kit):
    """Every implementation has the methods of the port."""
    assert isinstance(kit.reader(), Stream)


async def test_records_come_back_as_they_were_appended(kit):
    """Value, key, headers and order survive; every record is fresh, dated and has a place of its own."""
    reader = kit.reader()
    positions = await reader.append([Entry(b"a", "k", {"traceparent": "00-1"}), Entry(b"\xff\x00", None)])
    first, second = await polled(reader, 2)
    assert (first.value, first.key, dict(first.headers)) == (b"a", "k", {"traceparent": "00-1"})
    assert (second.value, second.key, dict(second.headers)) == (b"\xff\x00", None, {})
    assert [first.position, second.position] == list(positions)
    assert first.attempt == second.attempt == 1
    assert abs(first.at - SystemClock().wall()) < 60


async def test_a_poll_brings_at_most_what_was_asked_for(kit):
    """The bound of a poll holds, and nothing is skipped."""
    reader = kit.reader()
    await reader.append(entries("a", "b", "c"))
    assert values(await polled(reader, 2, most=2)) == ["a", "b"]
    assert values(await polled(reader, 1, most=2)) == ["c"]


async def test_an_empty_stream_is_polled_in_vain(kit):
    """A poll of an empty stream returns nothing, at once or after its wait."""
    reader = kit.reader()
    assert list(await reader.poll(10, 0.0)) == []
    assert list(await reader.poll(10, 0.01)) == []


async def test_a_waiting_poll_wakes_for_a_new_record(kit):
    """A record appended while polls wait ends the wait."""
    reader, writer = kit.reader(), kit.reader()

    async def first():
        while not (records := await reader.poll(10, 5.0)):
            pass
        return records

    waiting = asyncio.create_task(first())
    await asyncio.sleep(0.03)
    await writer.append(entries("late"))
    assert values(await asyncio.wait_for(waiting, 30)) == ["late"]


async def test_two_readers_share_the_records(kit):
    """In one group each record goes to exactly one reader, and no reader gets all of them."""
    kit.idle_s = 2.0
    one, two, writer = await kit.wide()
    for value in "abcdefghijkl":
        await writer.append(entries(value, key=value))
    got = {one: [], two: []}
    while sum(map(len, got.values())) < 12:
        for reader, seen in got.items():
            seen.extend(values(await reader.poll(3, 0.05)))
    assert sorted(got[one] + got[two]) == list("abcdefghijkl")
    assert got[one]
    assert got[two]


async def test_settled_records_never_come_back(kit):
    """What was settled, even twice, is gone for all readers, whatever happens to the one that settled."""
    one = kit.reader()
    await one.append(entries("a", "b"))
    got = await polled(one, 2)
    await one.settle([record.position for record in got])
    await one.settle([got[0].position])
    await kit.durable()
    await kit.kill(one)
    assert list(await kit.reader().poll(10, 0.05)) == []


async def test_unsettled_records_of_a_dead_reader_come_to_another(kit):
    """A reader that dies loses nothing: the next one gets what was unsettled, as a further attempt, in order."""
    one = kit.reader()
    await one.append(entries("a", "b", "c"))
    got = await polled(one, 3)
    await one.settle([got[1].position])
    await kit.durable()
    await kit.kill(one)
    again = await polled(kit.reader(), 2)
    assert values(again) == ["a", "c"]
    assert [record.attempt for record in again] == [2, 2]
    assert again[0].position == got[0].position


async def test_a_mere_redelivery_is_not_an_attempt_after_another(kit):
    """A record that is handed on and on without being tried does not use up its attempts."""
    reader = kit.reader()
    await reader.append(entries("a"))
    for _ in range(4):
        (record,) = await polled(reader, 1)
        assert record.attempt <= 2
        await kit.kill(reader)
        reader = kit.reader()


async def test_the_number_of_attempts_outlives_the_reader(kit):
    """What `defer` noted is counted on by the next reader."""
    one = kit.reader()
    await one.append(entries("a"))
    (record,) = await polled(one, 1)
    await noted(one, record, 4)
    await kit.kill(one)
    (again,) = await polled(kit.reader(), 1)
    assert again.attempt == 5


async def test_a_reader_that_leaves_hands_back_at_once(kit):
    """After `close` the next reader does not have to wait until the one before counts as dead."""
    one = kit.reader()
    await one.append(entries("a", "b"))
    await polled(one, 2)
    await one.close()
    assert values(await polled(kit.reader(), 2)) == ["a", "b"]


async def test_a_dead_letter_replaces_the_record(kit):
    """`dead` stores the whole letter and settles the record."""
    reader = kit.reader()
    await reader.append([Entry(b"\xff\x00bad", "k", {"h": "1"})])
    (record,) = await polled(reader, 1)
    letter = DeadLetter(
        stream=reader.name, position=record.position, value=record.value, reason="failed", error="ValueError: no",
        attempts=6, at=12.5, key="k", headers={"h": "1"},
    )  # fmt: skip
    await reader.dead(record, letter)
    assert list(await reader.letters(10)) == [letter]
    await kit.durable()
    await kit.kill(reader)
    assert list(await kit.reader().poll(10, 0.05)) == []


async def test_dead_letters_are_a_stream_of_their_own(kit):
    """The letters can be read like any stream, under the name with `.dlq`."""
    reader = kit.reader()
    await reader.append(entries("x"))
    (record,) = await polled(reader, 1)
    letter = DeadLetter(
        stream=reader.name, position=record.position, value=b"x", reason="failed", error="E: e", attempts=1, at=1.0
    )
    await reader.dead(record, letter)
    (found,) = await polled(kit.reader("s.dlq"), 1)
    assert DeadLetter.from_bytes(found.value) == letter


async def test_tending_keeps_what_is_held(kit):
    """A reader that is slow but alive keeps its records."""
    kit.idle_s = 4 * IDLE_S
    one, two = kit.reader(), kit.reader()
    await one.append(entries("slow"))
    await polled(one, 1)
    for _ in range(3):
        await asyncio.sleep(kit.idle_s / 2)
        await one.tend()
        assert list(await two.poll(10, 0.0)) == []


async def test_the_lag_counts_what_nobody_has_settled(kit):
    """After tending, the lag is what waits and what is in work."""
    reader = kit.reader()
    await reader.append(entries("a", "b", "c"))
    got = await polled(reader, 2, most=2)
    await reader.settle([got[0].position])
    await reader.tend()
    assert reader.lag == 2


async def test_closing_twice_is_harmless(kit):
    """`close` never raises, not even the second time."""
    reader = kit.reader()
    await reader.poll(1, 0.0)
    await reader.close()
    await reader.close()
    kit.readers.remove(reader)
    assert list(await kit.reader().poll(1, 0.0)) == []
