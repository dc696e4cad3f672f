"""What the reading thread and the event loop of a Kafka stream share, without a Kafka."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import pytest

from smw._kernel.clock import SystemClock, SystemEntropy
from smw.errors import ConfigError, MissingExtra, Unavailable
from smw.pipeline.kafka_client import Address, library, translated
from smw.pipeline.kafka_shelf import Page, Shelf
from smw.pipeline.offsets import Offsets
from smw.pipeline.ports import Record

now = SystemClock().now


def page(partition, *offsets):
    return Page(partition, [Record(f"{partition}-{n}", b"") for n in offsets], list(offsets))


@pytest.fixture
async def shelf():
    """A shelf with partitions 0 and 1, three records of each ready."""
    made = Shelf(10)
    for partition in (0, 1):
        made.begin(partition, Offsets(0))
        made.put([page(partition, 0, 1, 2)])
    return made


def positions(records):
    return [record.position for record in records]


async def test_records_are_taken_in_order_and_in_parts(shelf):
    """A page is handed out in as many parts as are asked for."""
    assert positions(shelf.take(2)) == ["0-0", "0-1"]
    assert positions(shelf.take(3)) == ["0-2", "1-0", "1-1"]
    assert positions(shelf.take(9)) == ["1-2"]
    assert shelf.take(9) == []


async def test_only_what_is_done_is_due(shelf):
    """The offset to commit follows the slowest record; what was confirmed is not due again."""
    shelf.take(6)
    shelf.settle(["0-0", "0-2", "1-0", "1-1", "1-2"])
    commits, versions = shelf.due()
    assert {partition: offset for partition, (offset, _) in commits.items()} == {0: 1, 1: 3}
    shelf.confirm(versions)
    assert shelf.due() == ({}, {})
    assert (shelf.behind(0, 3), shelf.behind(1, 5), shelf.behind(2, 9)) == (1, 2, None)


async def test_a_partition_that_leaves_waits_for_its_running_records(shelf):
    """Its ready records go, dropped ones are not waited for, running ones are; later results count for nothing."""
    shelf.take(2)
    shelf.lost = lambda held: ["0-1"] if "0-1" in held else []
    assert shelf.leave([0])
    assert positions(shelf.take(9)) == ["1-0", "1-1", "1-2"]
    assert not shelf.has("0-0")
    waiting = asyncio.create_task(asyncio.to_thread(shelf.wait_for_rest, 5))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    shelf.settle(["0-0"])
    assert await waiting
    assert shelf.left()[0][0] == 1
    shelf.settle(["0-1"])
    assert 0 not in shelf.due()[0]


@pytest.mark.timed
async def test_a_partition_that_leaves_waits_within_a_bound(shelf):
    """A record that never ends does not hold up the others."""
    shelf.take(1)
    shelf.leave([0])
    started = time.monotonic()
    assert not await asyncio.to_thread(shelf.wait_for_rest, 0.05)
    assert time.monotonic() - started < 2
    assert shelf.left() == {0: (0, '{"seen":1}')}
    assert not shelf.leave([0])


async def test_the_end_is_believed_only_when_it_was_seen(shelf):
    """An empty shelf means nothing until the thread says that everything was read, and then only for that question."""
    shelf.take(9)
    asking = asyncio.create_task(shelf.arrival(0.0, now))
    await asyncio.sleep(0.02)
    assert not asking.done()
    shelf.answer(shelf.question)
    assert not await asyncio.wait_for(asking, 2)
    assert shelf.question is None
    assert not await asyncio.wait_for(shelf.arrival(0.01, now), 2)
    again = asyncio.create_task(shelf.arrival(0.0, now))
    await asyncio.sleep(0.02)
    shelf.put([page(0, 3)])
    assert await asyncio.wait_for(again, 2)


async def test_trouble_is_told_once_nothing_is_ready(shelf):
    """Records that are ready are handed out first; new ones end the trouble."""
    shelf.report(Unavailable("SMW-P131", "away"))
    assert len(shelf.take(9)) == 6
    with pytest.raises(Unavailable):
        shelf.take(9)
    assert await shelf.arrival(9, now)
    shelf.put([page(0, 3)])
    assert positions(shelf.take(9)) == ["0-3"]
    assert shelf.take(9) == []


async def test_a_full_shelf_makes_the_thread_wait(shelf):
    """There is room again once records are taken."""
    shelf.put([page(0, *range(3, 20))])
    assert not shelf.wait_for_room(0.01)
    waiting = threading.Thread(target=shelf.wait_for_room, args=(5,))
    waiting.start()
    shelf.take(20)
    waiting.join(2)
    assert not waiting.is_alive()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("KafkaTimeoutError", Unavailable),
        ("NotLeaderForPartitionError", Unavailable),
        ("TopicAuthorizationFailedError", ConfigError),
        ("InvalidSessionTimeoutError", ConfigError),
    ],
)
def test_failures_are_told_apart(name, kind):
    """What waiting may mend is `Unavailable`; what it cannot is a `ConfigError`, and both name the brokers."""
    import kafka.errors

    error = translated(getattr(kafka.errors, name)("x"), Address(("a:1", "b:2"), "me"), "s")
    assert type(error) is kind
    assert "a:1,b:2" in error.what


async def test_a_missing_library_is_named(monkeypatch):
    """Without kafka-python the extra is named, before anything is connected."""
    from smw.pipeline.kafka import KafkaStream

    monkeypatch.setitem(sys.modules, "kafka", None)
    library.cache_clear()
    with pytest.raises(MissingExtra, match="kafka-python"):
        KafkaStream(("a:1",), "s", group="g", client_id="c", clock=SystemClock(), entropy=SystemEntropy())
