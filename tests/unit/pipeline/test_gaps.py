"""Records that are gone before anybody settled them, and records that have no value: neither passes in silence."""

from __future__ import annotations

import inspect
import logging

import pytest

from smw import pipeline
from smw._kernel.signals import RecordsLost
from smw.errors import ConfigError, RecordError
from smw.pipeline.offsets import Offsets
from smw.pipeline.ports import TOMBSTONE, Gap
from smw.testing import Recorded
from tests.unit.pipeline.test_revoked import Movable


class Gappy(Movable):
    """A stream that has lost records before its first one."""

    gaps = 1

    async def poll(self, max_records, wait_s):
        if self.gaps:
            self.gaps -= 1
            raise Gap(5, "partition 0")
        return await super().poll(max_records, wait_s)


def figures(own):
    """Return outcome → count, as the metrics have them."""
    facts = {dict(fact.labels).get("outcome"): fact.value for fact in own._facts()}
    return {outcome: value for outcome, value in facts.items() if outcome and value}


async def test_lost_records_are_counted_told_and_logged_and_the_rest_is_handled(caplog):
    """By default serving goes on behind the gap: what is left must not be lost as well."""
    own, seen = pipeline.Pipeline(), []
    own.stream_process("s")(seen.append)
    recorded = Recorded(own.host)
    with caplog.at_level(logging.ERROR, "smw.pipeline"):
        await own.serve("s", source=Gappy(3), until_empty=True)
    assert sorted(seen) == [0, 1, 2]
    assert recorded.of(RecordsLost) == [RecordsLost("s", 5)]
    assert figures(own) == {"done": 3, "lost": 5}
    assert caplog.messages == ["stream s: up to 5 unsettled records were deleted and are lost: partition 0"]


async def test_serving_stops_at_lost_records_where_that_is_wanted():
    """`stream_on_gap="stop"` ends serve with the number; nothing behind the gap was handled."""
    own, seen = pipeline.Pipeline(stream_on_gap="stop"), []
    own.stream_process("s")(seen.append)
    stream = Gappy(3)
    with pytest.raises(RecordError, match="up to 5 unsettled records were deleted") as caught:
        await own.serve("s", source=stream)
    assert caught.value.code == "SMW-P143"
    assert (seen, stream.settled, figures(own)) == ([], [], {"lost": 5})


def test_another_word_for_it_is_refused():
    """There are two ways, and no third."""
    with pytest.raises(ConfigError, match="stream_on_gap"):
        pipeline.Pipeline(stream_on_gap="latest")


class Tombstones(Movable):
    """A stream whose second record has no value."""

    async def poll(self, max_records, wait_s):
        records = await super().poll(max_records, wait_s)
        for record in records:
            if record.value == b"1":
                record.value = TOMBSTONE
        return records


@pytest.mark.parametrize(
    ("annotation", "takes_it"),
    [
        (dict | int, False), (bytes, False), (list[int], False),
        (int | None, True), (inspect.Parameter.empty, True), (list[int | None], True),
    ],
)  # fmt: skip
async def test_a_record_without_a_value(annotation, takes_it, caplog):
    """It is None where the annotation allows that; elsewhere it is settled, counted, told once, and no dead letter."""
    own, seen = pipeline.Pipeline(), []

    def handle(event):
        seen.extend(event if isinstance(event, list) else [event])

    if annotation is not inspect.Parameter.empty:
        handle.__annotations__["event"] = annotation
    own.stream_process("s", dead_letter=False)(handle)
    stream = Tombstones(3)
    with caplog.at_level(logging.WARNING, "smw.pipeline"):
        await own.serve("s", source=stream, until_empty=True)
    assert (None in seen) == takes_it
    assert len(seen) == (3 if takes_it else 2)
    assert figures(own) == ({"done": 3} if takes_it else {"done": 2, "skipped": 1})
    assert sorted(stream.settled) == ["1", "2", "3"]
    assert len(caplog.messages) == (not takes_it)


async def test_a_handler_that_fails_at_a_record_without_a_value():
    """Where None is taken and then refused, the record is a dead letter like any other."""
    own = pipeline.Pipeline()

    @own.stream_process("s")
    def handle(event: int | None):
        if event is None:
            raise RecordError("X-1", "not this one")

    stream = Tombstones(3)
    await own.serve("s", source=stream, until_empty=True)
    assert figures(own) == {"done": 2, "dead": 1}
    assert stream.buried == ["2"]


def test_what_was_settled_meanwhile_is_not_handed_out_again():
    """The last commit of the reader before may come after this one has looked for its place."""
    offsets = Offsets(3)
    assert offsets.hand_out([1, 2, 3, 4]) == [0, 0, 1, 1]
    offsets.settle(3)
    assert offsets.commit()[0] == 4
    offsets.settle(4)
    assert offsets.commit()[0] == 5


def test_what_was_done_out_of_order_is_not_lost():
    """Of the offsets that are gone, those that the reader before had done do not count."""
    before = Offsets(10)
    before.hand_out(range(10, 20))
    for offset in (12, 13, 18):
        before.settle(offset)
    assert Offsets(*before.commit()).known_before(15) == 2
