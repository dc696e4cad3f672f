"""Kafka topics through a consumer group and an idempotent producer; decides nothing about retries.

How the port maps: a record's position is ``partition-offset``; `settle` lets the committed offset of its partition
move on, at most 200 ms later. Kafka keeps one number for a group and partition, so that everything else a successor
must know (what is done beyond it, which attempts began) is written into the note that goes with each commit. A dead
letter is confirmed by all replicas before its record is settled: a crash in between repeats the letter, never loses it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from smw._kernel.bridge import in_thread
from smw.errors import SmwError, Unavailable
from smw.pipeline.deadletter import SUFFIX, DeadLetter
from smw.pipeline.kafka_client import Address, closed, library, opened, topic_of, translated
from smw.pipeline.kafka_reader import KafkaReader, ReaderOptions
from smw.pipeline.kafka_writer import KafkaWriter
from smw.pipeline.ports import Entry, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from smw._kernel.clock import Clock, Entropy

__all__ = ["KafkaStream"]

_log = logging.getLogger("smw.pipeline")
_ROOM = 2_000
_LETTERS_S = 5.0


class KafkaStream:
    """One reader of a topic, or a mere writer. Belongs to the event loop in which it is first used.

    Records of one key are in one partition and in order, also with several readers. A topic that does not exist is
    made by the broker where it does that (``auto.create.topics.enable``); otherwise it is waited for.

    Args:
        brokers: Some brokers of the cluster, ``host:port``.
        name: The topic.
        group: Consumer group.
        client_id: How this process calls itself in the broker's logs and figures.
        clock: Time.
        entropy: Jitter.
        session_s: Silence after which the group counts a reader as dead.
        grace_s: How long a partition that moves to another reader waits for its running records.
        timeout_s: Most that appending may take.
        buffer: Records fetched ahead.

    Raises:
        MissingExtra: kafka-python is not installed.
        ConfigError: Kafka has no topics of that name.
    """

    kind = "kafka"

    def __init__(
        self,
        brokers: tuple[str, ...],
        name: str,
        *,
        group: str,
        client_id: str,
        clock: Clock,
        entropy: Entropy,
        session_s: float = 60.0,
        grace_s: float = 5.0,
        timeout_s: float = 5.0,
        buffer: int = 10_000,
    ) -> None:
        library()
        self.name = name
        self.lag: int | None = None
        self._address = Address(brokers, client_id)
        self._options = ReaderOptions(
            self._address, topic_of(name), group, session_s, min(grace_s, session_s / 3), min(buffer, _ROOM)
        )
        self._clock = clock
        self._entropy = entropy
        self._writer = KafkaWriter(self._address, timeout_s=timeout_s, clock=clock)
        self._reader: KafkaReader | None = None
        self._lost: Callable[[Collection[str]], Collection[str]] | None = None

    def on_revoke(self, lost: Callable[[Collection[str]], Collection[str]]) -> None:
        """Have `lost` called with positions whose partition moves to another reader."""
        self._lost = lost
        if self._reader is not None:
            self._reader.shelf.lost = lost

    def _reading(self) -> KafkaReader:
        if self._reader is None:
            self._reader = KafkaReader(self._options, self._clock, self._entropy)
            if self._lost is not None:
                self._reader.shelf.lost = self._lost
        return self._reader

    async def poll(self, max_records: int, wait_s: float) -> Sequence[Record]:
        """Return records. Joining the group, and reading on to the end of the topic, are not counted as waiting."""
        await self._clock.sleep(0)
        shelf = self._reading().shelf
        while True:
            records = shelf.take(max_records)
            if records or not await shelf.arrival(wait_s, self._clock.now):
                return records

    async def settle(self, positions: Sequence[str]) -> None:
        """Let the committed offsets move on; a crash within the next 200 ms brings the records again."""
        if self._reader is not None:
            self._reader.shelf.settle(positions)

    async def defer(self, position: str, attempt: int) -> None:
        """Commit a note of the attempt, together with those of others that wait."""
        reader = self._reading()
        if not reader.shelf.attempt(position, attempt):
            return
        if not await in_thread(reader.commit) and reader.shelf.attempt(position, attempt - 1):
            # The attempt does not begin now: committed later, its note would count one that never was.
            message = f"the Kafka at {self._address.shown} did not take a commit for the stream {self.name!r}"
            raise Unavailable("SMW-P131", message, seen="commit")

    async def dead(self, record: Record, letter: DeadLetter) -> None:
        """Append the letter to ``<name>.dlq``, then settle the record."""
        if not self._reading().shelf.has(record.position):
            return
        await self._writer.append(topic_of(self.name, SUFFIX), [Entry(letter.to_bytes(), record.key)])
        await self.settle([record.position])

    async def append(self, entries: Sequence[Entry]) -> Sequence[str]:
        """Append entries; all replicas in sync have them once this returns."""
        return await self._writer.append(topic_of(self.name), entries)

    async def letters(self, limit: int) -> Sequence[DeadLetter]:
        """Return the oldest dead letters, by the time they were written."""
        try:
            return await in_thread(self._letters, limit)
        except SmwError:
            raise
        except Exception as error:
            raise translated(error, self._address, self.name) from error

    def _letters(self, limit: int) -> list[DeadLetter]:
        topic = topic_of(self.name, SUFFIX)
        consumer = opened(
            "KafkaConsumer", self._address, group_id=None, auto_offset_reset="earliest", allow_auto_create_topics=False
        )
        try:
            partitions = [
                library().TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()
            ]
            if not partitions:
                return []
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions, timeout_ms=2_000)
            return self._read_letters(consumer, ends, limit)
        finally:
            closed(consumer.close, autocommit=False, timeout_ms=1_000)

    def _read_letters(self, consumer: Any, ends: dict[Any, int], limit: int) -> list[DeadLetter]:
        """Read each partition up to its end, or up to `limit` letters of it."""
        found: dict[Any, list[Any]] = {partition: [] for partition in ends}
        until = self._clock.now() + _LETTERS_S
        while self._clock.now() < until:
            open_ones = [
                one for one, end in ends.items() if len(found[one]) < limit and (consumer.position(one) or 0) < end
            ]
            if not open_ones:
                break
            for partition, records in consumer.poll(timeout_ms=200).items():
                found[partition] += records
        oldest = sorted((record for records in found.values() for record in records), key=lambda one: one.timestamp)
        return [DeadLetter.from_bytes(record.value) for record in oldest[:limit]]

    async def tend(self) -> None:
        """Measure the lag; a consumer that has stopped in silence is made anew."""
        if self._reader is not None:
            self.lag = await in_thread(self._reader.measure)

    async def close(self) -> None:
        """Commit, leave the group, so that others get the rest at once, and disconnect; never raises."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await in_thread(reader.stop)
        await in_thread(self._writer.close)
