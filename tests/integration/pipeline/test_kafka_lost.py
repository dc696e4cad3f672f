"""What a Kafka topic no longer has, and what lies between a dead letter and its commit, on a real broker."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from smw import pipeline
from smw._kernel.signals import RecordsLost
from smw.errors import RecordError
from smw.testing import Recorded
from tests.integration.pipeline.waiting import until

pytestmark = [pytest.mark.service("kafka"), pytest.mark.timed]  # a reader counts as dead after 1.5 s
WORKER = Path(__file__).with_name("kafka_worker.py")
FAST = pipeline.Retry(times=0)


def deleted_before(url, topic, offset):
    """Have the broker delete the records of partition 0 before `offset`, as the retention of a topic does."""
    from kafka import KafkaAdminClient, TopicPartition

    admin = KafkaAdminClient(bootstrap_servers=url)
    admin.delete_records({TopicPartition(topic, 0): offset})
    admin.close()


async def fill(own, stream, values):
    """Emit values."""
    for value in values:
        await own.emit(stream, value)


async def test_what_retention_deleted_is_told(on_kafka, stream, kafka_server, caplog):
    """A group that was behind hears how many are gone, less what it had done out of order, and goes on."""
    own, seen, hold = on_kafka(drain_s=0.2), [], asyncio.Event()

    @own.stream_process(stream)
    async def handle(event: int):
        if event == 2 and not hold.is_set():
            await hold.wait()
        seen.append(event)

    await fill(own, stream, range(10))
    serving = asyncio.create_task(own.serve(stream))
    await until(lambda: len(seen) == 9)
    await asyncio.sleep(0.5)  # two commits: what is done beyond record 2 is noted
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    hold.set()
    await fill(own, stream, range(10, 20))
    deleted_before(kafka_server.url, stream, 14)
    recorded = Recorded(own.host)
    with caplog.at_level(logging.ERROR, "smw.pipeline"):
        await own.serve(stream, until_empty=True)
    assert sorted(seen) == [0, 1, *range(3, 10), *range(14, 20)]
    assert recorded.of(RecordsLost) == [RecordsLost(stream, 5)]  # 2, and 10 to 13
    assert own._tally(stream).lost == 5
    assert [message for message in caplog.messages if "up to 5 unsettled records" in message]
    recorded.end()
    await own.serve(stream, until_empty=True)
    assert own._tally(stream).lost == 5


async def test_an_empty_topic_tells_of_a_gap_without_a_new_record(on_kafka, stream, kafka_server):
    """Where everything is gone the group hears of it at once, and the next record is handled."""
    own, seen = on_kafka(), []
    own.stream_process(stream)(seen.append)
    await fill(own, stream, range(2))
    await own.serve(stream, until_empty=True)
    await fill(own, stream, range(2, 6))
    deleted_before(kafka_server.url, stream, 6)
    await own.serve(stream, until_empty=True)
    assert (seen, own._tally(stream).lost) == ([0, 1], 4)
    await own.emit(stream, 6)
    await own.serve(stream, until_empty=True)
    assert (seen, own._tally(stream).lost) == ([0, 1, 6], 4)


async def test_stopping_at_a_gap_holds_until_somebody_decides(on_kafka, stream, kafka_server):
    """With `stream_on_gap="stop"` every start ends the same way, and nothing behind the gap is passed over."""
    own, seen = on_kafka(stream_on_gap="stop"), []
    own.stream_process(stream, group="g")(seen.append)
    await fill(own, stream, range(2))
    await own.serve(stream, until_empty=True)
    await fill(own, stream, range(2, 6))
    deleted_before(kafka_server.url, stream, 4)
    for _ in range(2):
        with pytest.raises(RecordError, match="up to 2 unsettled records were deleted"):
            await own.serve(stream, until_empty=True)
    assert seen == [0, 1]
    calm = on_kafka()
    calm.stream_process(stream, group="g")(seen.append)
    await calm.serve(stream, until_empty=True)
    assert seen == [0, 1, 4, 5]


async def test_a_place_behind_the_end(on_kafka, stream, kafka_server, caplog):
    """What a group remembers of a longer log says nothing of this one: all of it is handled, and that is logged."""
    from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

    own, seen = on_kafka(), []
    own.stream_process(stream, group="g")(seen.append)
    await fill(own, stream, range(3))
    place = TopicPartition(stream, 0)
    member = KafkaConsumer(bootstrap_servers=kafka_server.url, group_id="g", enable_auto_commit=False)
    member.assign([place])
    member.commit({place: OffsetAndMetadata(50, "", -1)})
    member.close()
    with caplog.at_level(logging.ERROR, "smw.pipeline"):
        await own.serve(stream, until_empty=True)
    assert seen == [0, 1, 2]
    assert any("is shorter than it was" in message for message in caplog.messages)
    caplog.clear()
    await own.serve(stream, until_empty=True)
    assert (seen, own._tally(stream).lost) == ([0, 1, 2], 0)


async def test_a_topic_that_is_made_anew_while_it_is_read(on_kafka, stream, kafka_server):
    """The records of the new topic are handled, although their offsets were handled before."""
    from kafka import KafkaAdminClient

    own, seen = on_kafka(), []
    own.stream_process(stream)(seen.append)
    await fill(own, stream, range(3))
    serving = asyncio.create_task(own.serve(stream))
    await until(lambda: len(seen) == 3)
    admin = KafkaAdminClient(bootstrap_servers=kafka_server.url)
    await asyncio.to_thread(admin.delete_topics, [stream])
    admin.close()
    await asyncio.sleep(1)  # the broker makes it again for whoever asks for it
    other = on_kafka()
    other.stream_process(stream)(seen.append)
    await fill(other, stream, range(100, 102))
    await until(lambda: {100, 101} <= set(seen))
    own.stop()
    await serving


async def test_tombstones_of_a_compacted_topic(on_kafka, stream, kafka_server):
    """A record without a value is None where that is allowed, and skipped where it is not."""
    from kafka import KafkaProducer

    own, other, optional, strict = on_kafka(), on_kafka(), [], []

    @own.stream_process(stream, group="optional")
    def handle(event: dict | None, ctx):
        optional.append((ctx.key, event))

    @other.stream_process(stream, group="strict", dead_letter=False)
    def only_dicts(event: dict):
        strict.append(event)

    producer = KafkaProducer(bootstrap_servers=kafka_server.url)
    for value in (b'{"a":1}', None, b'{"a":2}'):
        producer.send(stream, value=value, key=b"k").get(10)
    producer.close()
    await own.serve(stream, until_empty=True)
    assert optional == [("k", {"a": 1}), ("k", None), ("k", {"a": 2})]
    await other.serve(stream, until_empty=True)
    assert strict == [{"a": 1}, {"a": 2}]
    assert other._tally(stream).skipped == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_beside_a_dead_letter_repeats_it_and_loses_nothing(
    on_kafka, stream, kafka_server, tmp_path, when
):
    """A worker that dies before its letter is stored, or between letter and commit, leaves the record to the next."""
    own, done = on_kafka(), []
    own.stream_process(stream, retry=FAST)(lambda event: done.append(event) or 1 / (event != 3))
    await fill(own, stream, range(6))
    (tmp_path / "log").touch()
    command = [sys.executable, str(WORKER), kafka_server.url, stream, f"die-{when}-letter", str(tmp_path / "log")]
    worker = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60, check=False)
    assert worker.returncode == 9
    assert len(await own.dead_letters(stream)) == (when == "after")
    await own.serve(stream, until_empty=True)
    letters = await own.dead_letters(stream)
    assert [letter.value for letter in letters] == [b"3"] * (2 if when == "after" else 1)
    log = (tmp_path / "log").read_text()
    handled = {int(line.split()[1]) for line in log.splitlines() if line.startswith("done")}
    assert handled | set(done) == set(range(6))
    await own.serve(stream, until_empty=True)
    assert len(await own.dead_letters(stream)) == len(letters)
