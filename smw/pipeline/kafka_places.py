"""Where a reader goes on in a partition that has nothing at its place: a new group, deleted records, a shorter log.

kafka-python could do this by itself (``auto_offset_reset``), in silence. Records that nobody has settled and that are
no longer there must be told instead, and what is remembered of a log that was cut says nothing of the new one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from smw.pipeline.kafka_client import library
from smw.pipeline.offsets import Offsets

if TYPE_CHECKING:
    from smw.pipeline.kafka_shelf import Shelf

__all__ = ["begun", "position", "replaced"]

_log = logging.getLogger("smw.pipeline")
ANSWER_MS = 2_000


def begun(consumer: Any, partition: Any) -> Offsets | None:
    """Return what the group remembers of a partition; None where it remembers nothing.

    Args:
        consumer: A member of the group.
        partition: Which one.
    """
    before = consumer.committed(partition, metadata=True, timeout_ms=ANSWER_MS)
    return None if before is None else Offsets(before.offset, before.metadata or "")


def position(consumer: Any, partition: Any) -> int:
    """Return the offset that is read next; 0 as long as there is none."""
    try:
        return consumer.position(partition, timeout_ms=ANSWER_MS) or 0
    except library().errors.NoOffsetForPartitionError:
        return 0


def replaced(consumer: Any, shelf: Shelf, error: Any) -> bool:
    """Go on where there are records, and tell which ones are lost; False when `error` means something else.

    Args:
        consumer: Has raised `error` in its poll.
        shelf: Is told of lost records, and forgets a log that was cut.
        error: What the consumer raised.
    """
    errors = library().errors
    if isinstance(error, errors.NoOffsetForPartitionError):
        for partition in error.args[0] & consumer.assignment():
            consumer.seek_to_beginning(partition)
    elif isinstance(error, errors.OffsetOutOfRangeError):
        for partition, offset in error.args[0].items():
            _out_of_range(consumer, shelf, partition, offset)
    elif isinstance(error, errors.LogTruncationError):
        for partition, end in error.divergent_offsets.items():
            _cut(consumer, shelf, partition, None if end is None else end.offset)
    else:
        return False
    return True


def _out_of_range(consumer: Any, shelf: Shelf, partition: Any, offset: int) -> None:
    start = consumer.beginning_offsets([partition], timeout_ms=ANSWER_MS)[partition]
    if offset > start:
        _cut(consumer, shelf, partition, start)
        return
    offsets = shelf.offsets(partition.partition) or begun(consumer, partition)
    done = 0 if offsets is None else offsets.known_before(start)
    consumer.seek(partition, start)
    shelf.gap(partition.partition, start, start - offset - done)


def _cut(consumer: Any, shelf: Shelf, partition: Any, start: int | None) -> None:
    """Read on from `start`, or from the oldest record, in a log that ends before the place that was reached.

    That is committed at once: the place that the group remembers would pass for one that a reader before has reached.
    """
    if start is None:
        start = consumer.beginning_offsets([partition], timeout_ms=ANSWER_MS)[partition]
    _log.error(
        "stream %s: partition %d is shorter than it was: its topic was made anew, or a broker has lost records; "
        "reading on from offset %d, records may come twice",
        partition.topic, partition.partition, start,
    )  # fmt: skip
    shelf.leave([partition.partition])
    shelf.left()
    consumer.commit({partition: library().OffsetAndMetadata(start, "", -1)}, timeout_ms=ANSWER_MS)
    consumer.seek(partition, start)
