"""Where a reader of Kafka goes on when there is nothing at its place, without a Kafka."""

from __future__ import annotations

import logging

import pytest
from kafka import OffsetAndMetadata, TopicPartition, errors

from smw._kernel.clock import SystemClock, SystemEntropy
from smw.errors import Unavailable
from smw.pipeline.kafka import KafkaStream
from smw.pipeline.kafka_places import position, replaced
from smw.pipeline.kafka_shelf import Page, Shelf
from smw.pipeline.offsets import Offsets
from smw.pipeline.ports import Gap, Record

HERE, GONE = TopicPartition("s", 0), TopicPartition("s", 1)


class Consumer:
    """A member that has partition 0, whose oldest record is 10, and has committed `before`."""

    def __init__(self, before=None):
        self.before = before
        self.sought = []
        self.commits = []

    def assignment(self):
        return {HERE}

    def seek_to_beginning(self, *partitions):
        self.sought.append(("beginning", *partitions))

    def seek(self, partition, offset):
        self.sought.append((offset, partition))

    def commit(self, offsets, timeout_ms):
        self.commits += [(partition, place.offset) for partition, place in offsets.items()]

    def beginning_offsets(self, partitions, timeout_ms):
        return dict.fromkeys(partitions, 10)

    def committed(self, partition, *, metadata, timeout_ms):
        return self.before

    def position(self, partition, timeout_ms):
        raise errors.NoOffsetForPartitionError({partition})


@pytest.fixture
async def shelf():
    """A shelf without partitions."""
    return Shelf(10)


async def test_a_new_group_begins_with_the_oldest_record(shelf):
    """Each partition that is still here, and none of the others."""
    consumer = Consumer()
    assert replaced(consumer, shelf, errors.NoOffsetForPartitionError({HERE, GONE}))
    assert replaced(consumer, shelf, errors.NoOffsetForPartitionError({GONE}))
    assert consumer.sought == [("beginning", HERE)]
    assert position(consumer, HERE) == 0


async def test_a_gap_is_committed_only_once_its_reader_has_gone_on(shelf):
    """Who is told of a gap may stop there; asking again is going on."""
    consumer = Consumer(OffsetAndMetadata(4, "", -1))
    assert replaced(consumer, shelf, errors.OffsetOutOfRangeError({HERE: 4}))
    assert consumer.sought == [(10, HERE)]
    with pytest.raises(Gap) as gap:
        shelf.take(5)
    assert gap.value.count == 6
    assert shelf.due() == ({}, {})
    assert shelf.take(5) == []
    commits, versions = shelf.due()
    assert commits == {0: (10, "")}
    shelf.confirm(versions)
    assert shelf.due() == ({}, {})


async def test_what_is_ready_comes_before_the_gap_behind_it(shelf):
    """Records that were fetched before their log was deleted are handed out, and nothing is committed past them."""
    shelf.begin(0, Offsets(0))
    shelf.put([Page(0, [Record("0-0", b""), Record("0-1", b"")], [0, 1])])
    assert replaced(Consumer(), shelf, errors.OffsetOutOfRangeError({HERE: 2}))
    shelf.put([Page(0, [Record("0-10", b"")], [10])])
    assert [record.position for record in shelf.take(1)] == ["0-0"]
    assert [record.position for record in shelf.take(5)] == ["0-1"]
    with pytest.raises(Gap):
        shelf.take(5)
    assert [record.position for record in shelf.take(5)] == ["0-10"]
    shelf.settle(["0-10", "0-1"])
    assert shelf.due()[0][0][0] == 0
    shelf.settle(["0-0"])
    assert shelf.due()[0] == {0: (11, "")}


@pytest.mark.parametrize("asked", [0, 1, 2])
async def test_a_gap_of_a_partition_that_has_left_is_told_and_not_committed(shelf, asked):
    """Its new reader commits it, however far this one had come with it."""
    replaced(Consumer(), shelf, errors.OffsetOutOfRangeError({HERE: 4}))
    told = 0
    for number in range(4):
        if number == asked:
            assert shelf.gaps == [0]
            shelf.leave([0])
            shelf.left()
        try:
            shelf.take(1)
        except Gap:
            told += 1
    assert told == 1
    assert shelf.due() == ({}, {})


async def test_a_gap_never_commits_past_records_in_work(shelf):
    """A reader that met the gap on its way keeps what it has in hand as its place."""
    shelf.begin(0, Offsets(0))
    shelf.put([Page(0, [Record("0-0", b""), Record("0-1", b"")], [0, 1])])
    shelf.take(2)
    assert replaced(Consumer(), shelf, errors.OffsetOutOfRangeError({HERE: 2}))
    with pytest.raises(Gap):
        shelf.take(2)
    shelf.take(2)
    assert shelf.due()[0][0][0] == 0
    shelf.settle(["0-0", "0-1"])
    assert shelf.due()[0] == {0: (10, "")}


@pytest.mark.parametrize(("end", "start"), [(OffsetAndMetadata(13, "", 1), 13), (None, 10)])
async def test_a_log_that_was_cut_is_begun_anew(shelf, caplog, end, start):
    """What was known of its records is forgotten, in the group too; the log tells, and nothing counts as lost."""
    shelf.begin(0, Offsets(5))
    consumer = Consumer()
    with caplog.at_level(logging.ERROR, "smw.pipeline"):
        assert replaced(consumer, shelf, errors.LogTruncationError({HERE: end}))
    assert consumer.sought == [(start, HERE)]
    assert consumer.commits == [(HERE, start)]
    assert shelf.partitions == []
    assert "is shorter than it was" in caplog.text
    assert shelf.take(1) == []


async def test_other_errors_are_not_its_business(shelf):
    """They go on to whoever opens the consumer anew."""
    assert not replaced(Consumer(), shelf, errors.KafkaTimeoutError())


class Refusing:
    """A reader whose commits are refused until `takes` is set."""

    takes = False

    def __init__(self, shelf):
        self.shelf = shelf

    def commit(self):
        return self.takes


async def test_an_attempt_that_could_not_be_noted_has_not_begun(shelf):
    """A commit that fails leaves no note behind, which a later commit would carry as an attempt that never was."""
    options = {"group": "g", "client_id": "c", "clock": SystemClock(), "entropy": SystemEntropy()}
    stream = KafkaStream(("127.0.0.1:1",), "s", **options)
    stream._reader = reader = Refusing(shelf)
    shelf.begin(0, Offsets(0))
    shelf.put([Page(0, [Record("0-0", b"")], [0])])
    shelf.take(1)
    with pytest.raises(Unavailable):
        await stream.defer("0-0", 3)
    assert Offsets(*shelf.due()[0][0]).hand_out([0]) == [3]
    reader.takes = True
    await stream.defer("0-0", 3)
    assert Offsets(*shelf.due()[0][0]).hand_out([0]) == [4]
