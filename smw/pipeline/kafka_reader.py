"""Reads a Kafka topic in a thread of its own, as a member of a consumer group; decides nothing about records.

Partitions move between members without stopping the others (cooperative rebalance): before one leaves, its running
records get a bounded time, and what is done is committed. Heartbeats go on in kafka-python's own thread meanwhile.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from smw.errors import Unavailable
from smw.pipeline.kafka_client import Address, closed, headers_of, library, opened, translated
from smw.pipeline.kafka_places import ANSWER_MS, begun, position, replaced
from smw.pipeline.kafka_shelf import Page, Shelf
from smw.pipeline.offsets import Offsets
from smw.pipeline.ports import NO_HEADERS, TOMBSTONE, Record
from smw.pipeline.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.clock import Clock, Entropy

__all__ = ["KafkaReader", "ReaderOptions"]

_log = logging.getLogger("smw.pipeline")
_COMMIT_S = 0.2
_PAGE = 500
_SLICE_MS = 50
_FULL_S = 0.25
_STUCK_TENDS = 4
_TOPIC_S = 2.0
_HALF_JOINED_S = 10.0


class ReaderOptions(NamedTuple):
    """What a reader needs to know.

    Attributes:
        address: The cluster.
        topic: What to read.
        group: Whose offsets to use.
        session_s: Silence after which the group counts this reader as dead.
        grace_s: How long a partition that leaves waits for its running records.
        room: Records kept ready.
    """

    address: Address
    topic: str
    group: str
    session_s: float
    grace_s: float
    room: int


class _StuckError(Exception):
    """Records wait, and none comes: the consumer is made anew."""


class KafkaReader:
    """One member of a consumer group, from its first poll to `stop`."""

    def __init__(self, options: ReaderOptions, clock: Clock, entropy: Entropy) -> None:
        self.options = options
        self.shelf = Shelf(options.room)
        self._clock = clock
        self._backoff = Backoff(entropy)
        self._committing = threading.Lock()
        self._closing = threading.Event()
        self._is_stuck = self._is_leaving = False
        self._still = (0, 0)
        self._generation = -1
        self._half_joined_at: float | None = None
        self._consumer: Any = None
        self._thread = threading.Thread(target=self._run, name=f"smw-kafka-{options.topic}", daemon=True)
        self._thread.start()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._consumer = self._open()
                self._pump(self._consumer)
            except Exception as error:  # noqa: BLE001 - told to who polls, who decides whether to go on
                self._troubled(error)
                self._closing.wait(self._backoff.next_s())
            finally:
                if self._consumer is not None:
                    self._leave(self._consumer)
                    self._consumer = None

    def _open(self) -> Any:
        options = self.options
        session_ms = int(options.session_s * 1000)
        consumer = opened(
            "KafkaConsumer",
            options.address,
            group_id=options.group,
            enable_auto_commit=False,
            auto_offset_reset="none",  # what is to be read where nothing is, `replaced` decides
            isolation_level="read_committed",
            partition_assignment_strategy=[
                library().coordinator.assignors.cooperative_sticky.CooperativeStickyAssignor
            ],
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(3_000, max(100, session_ms // 4)),
            request_timeout_ms=max(10_000, session_ms + 5_000),
            fetch_max_bytes=16 * 2**20,
            fetch_max_wait_ms=100,  # a broker answers other questions only after the fetch that waits before them
            metadata_max_age_ms=30_000,
        )
        try:
            self._subscribe(consumer)
        except BaseException:
            closed(consumer.close, autocommit=False, timeout_ms=1_000)
            raise
        return consumer

    def _subscribe(self, consumer: Any) -> None:
        """Join only once the topic is known: kafka-python may hang in a join that new metadata overtakes."""
        topic = self.options.topic
        if not consumer.partitions_for_topic(topic):
            self._have_made(topic)
            consumer.partitions_for_topic(topic)
        consumer.subscribe([topic], listener=_listener(self))

    def _have_made(self, topic: str) -> None:
        """Ask for a topic by name, upon which the broker makes it where it does that."""
        asker = opened("KafkaProducer", self.options.address, max_block_ms=int(_TOPIC_S * 1000))
        try:
            asker.partitions_for(topic)
        except Exception as error:
            if type(error).__name__ == "KafkaTimeoutError":
                raise self._unavailable("no such topic") from error
            raise
        finally:
            closed(asker.close, timeout=1.0)

    def _pump(self, consumer: Any) -> None:
        clock, shelf = self._clock, self.shelf
        commit_at = clock.now()
        self._generation, self._half_joined_at = -1, None
        while not self._closing.is_set():
            has_room = shelf.wait_for_room(_FULL_S)
            batches = self._poll(consumer, max_records=_PAGE) if has_room else self._stay(consumer)
            self._check_join(consumer)
            if batches:
                self._accept(consumer, batches)
            else:
                question = shelf.question
                if question is not None and self._has_read_all(consumer):
                    shelf.answer(question)
            if clock.now() >= commit_at:
                self.commit()
                commit_at = clock.now() + _COMMIT_S
            if self._is_stuck:
                raise _StuckError

    def _poll(self, consumer: Any, **options: Any) -> Any:
        try:
            return consumer.poll(timeout_ms=_SLICE_MS, **options)
        except Exception as error:
            if not replaced(consumer, self.shelf, error):
                raise
        return {}

    def _stay(self, consumer: Any) -> Any:
        """Stay in the group without fetching: there is no room."""
        paused = consumer.assignment()
        consumer.pause(*paused)
        batches = self._poll(consumer)
        consumer.resume(*(paused & consumer.assignment()))
        return batches

    def _accept(self, consumer: Any, batches: dict[Any, Sequence[Any]]) -> None:
        pages = []
        for partition, raw in batches.items():
            if partition.partition not in self.shelf.partitions:
                self._begin(consumer, partition, raw)
            pages.append(Page(partition.partition, _records(partition.partition, raw), [one.offset for one in raw]))
        self._backoff.reset()
        self.shelf.put(pages)

    def _begin(self, consumer: Any, partition: Any, raw: Sequence[Any]) -> None:
        """Learn what the reader before left, and say what is about to be handed out before it is."""
        first = raw[0].offset
        offsets = begun(consumer, partition) or Offsets(first)
        if offsets.expect(raw[-1].offset + 1):
            # A record that kills its worker at once must not look untried to the next one.
            consumer.commit({partition: library().OffsetAndMetadata(*offsets.commit(), -1)}, timeout_ms=ANSWER_MS)
        self.shelf.begin(partition.partition, offsets)

    def _has_read_all(self, consumer: Any) -> bool:
        if not _is_stable(consumer.group_metadata()):
            return False
        assigned = consumer.assignment()
        ends = consumer.end_offsets(list(assigned), timeout_ms=ANSWER_MS) if assigned else {}
        return all(position(consumer, one) >= ends[one] for one in assigned)

    def _check_join(self, consumer: Any) -> None:
        """Have kafka-python finish a join: when a poll ended in the middle of it, it may never look at the answer."""
        member = consumer.group_metadata()
        if _is_stable(member):
            self._generation, self._half_joined_at = member.generation_id, None
        elif member.generation_id == self._generation:
            self._half_joined_at = None
        elif self._half_joined_at is None:
            self._half_joined_at = self._clock.now()
            if (coordinator := getattr(consumer, "_coordinator", None)) is not None:
                coordinator.request_rejoin()  # has the next poll wait for the join that is under way
        elif self._clock.now() - self._half_joined_at > _HALF_JOINED_S:
            raise _StuckError

    def _troubled(self, error: Exception) -> None:
        if isinstance(error, _StuckError):
            self._is_stuck = False
            _log.error("stream %s: records wait and none comes; connecting anew", self.options.topic)
            error = self._unavailable("stuck")
        self.shelf.report(translated(error, self.options.address, self.options.topic))

    def _unavailable(self, seen: str) -> Unavailable:
        options = self.options
        what = f"the Kafka at {options.address.shown} did not serve the stream {options.topic!r}: {seen}"
        return Unavailable("SMW-P131", what, seen=seen)

    def _leave(self, consumer: Any) -> None:
        self._is_leaving = True
        try:
            self._commit(consumer, timeout_ms=1_000)
        except Exception as error:  # noqa: BLE001 - what is not committed comes again
            _log.debug("stream %s: last commit failed: %s", self.options.topic, type(error).__name__)
        closed(consumer.close, autocommit=False, timeout_ms=1_000)
        self.shelf.leave([*self.shelf.partitions, *self.shelf.gaps])
        self.shelf.left()
        self._is_leaving = False

    # --- partitions that leave ---------------------------------------------------------------------------------------

    def revoked(self, partitions: Sequence[int], finished: Any) -> None:
        """Give partitions away, called where waiting is forbidden; `finished` resolves once they may go."""
        if not self.shelf.leave(partitions) or self._is_leaving:
            self.shelf.left()
            finished.success(None)
            return
        threading.Thread(target=self._see_off, args=(finished,), name="smw-kafka-rebalance", daemon=True).start()

    def _see_off(self, finished: Any) -> None:
        if not self._closing.is_set() and not self.shelf.wait_for_rest(self.options.grace_s):
            _log.warning(
                "stream %s: a partition left before its records were done; they come again elsewhere",
                self.options.topic,
            )
        try:
            # Its answer arrives in kafka-python's thread, which `finished` has to be resolved in to wake it.
            self._consumer.commit_async(self._named(self.shelf.left())).add_both(lambda _: finished.success(None))
        except Exception as error:  # noqa: BLE001 - the records come again
            _log.debug("stream %s: commit before leaving failed: %s", self.options.topic, error)
            finished.success(None)

    def lost(self, partitions: Sequence[int]) -> None:
        """Forget partitions that others have already."""
        if self.shelf.leave(partitions):
            _log.warning("stream %s: this reader was taken for dead; what it had comes again", self.options.topic)
        self.shelf.left()

    # --- for any thread ----------------------------------------------------------------------------------------------

    def _named(self, commits: dict[int, tuple[int, str]]) -> dict[Any, Any]:
        kafka, topic = library(), self.options.topic
        return {kafka.TopicPartition(topic, one): kafka.OffsetAndMetadata(*what, -1) for one, what in commits.items()}

    def commit(self) -> bool:
        """Commit what is done; False when the group or the cluster did not take it."""
        try:
            self._commit(self._consumer, timeout_ms=ANSWER_MS)
        except Exception as error:  # noqa: BLE001 - tried again with the next tick
            meaning = translated(error, self.options.address, self.options.topic)
            _log.debug("stream %s: a commit failed: %s", self.options.topic, meaning.what)
            if type(error).__name__ in ("KafkaTimeoutError", "KafkaConnectionError"):
                self.shelf.report(meaning)
            return False
        return True

    def _commit(self, consumer: Any, *, timeout_ms: int) -> None:
        with self._committing:
            commits, versions = self.shelf.due()
            if commits:
                consumer.commit(self._named(commits), timeout_ms=timeout_ms)
                self.shelf.confirm(versions)

    def measure(self) -> int | None:
        """Return how many records nobody has settled, of the partitions of this reader; blocks.

        Raises:
            SmwError: The cluster does not answer.
        """
        consumer = self._consumer
        if consumer is None or not (assigned := list(consumer.assignment())):
            return None
        try:
            ends = consumer.end_offsets(assigned, timeout_ms=ANSWER_MS)
            lag = 0
            for one in assigned:
                behind = self.shelf.behind(one.partition, ends[one])
                if behind is None:
                    behind = max(0, ends[one] - position(consumer, one))
                lag += behind
        except Exception as error:
            meaning = translated(error, self.options.address, self.options.topic)
            self.shelf.report(meaning)
            raise meaning from error
        self.shelf.report(None)
        self._watch(lag)
        return lag

    def _watch(self, lag: int) -> None:
        """Notice a consumer that has stopped: records wait, nothing is in work, and none was taken for long."""
        taken, times = self._still
        is_still = lag > 0 and not self.shelf.unsettled and taken == self.shelf.taken
        self._still = (self.shelf.taken, times + 1 if is_still else 0)
        self._is_stuck = self._still[1] >= _STUCK_TENDS

    def stop(self) -> None:
        """Commit, leave the group and end the thread; blocks for a few seconds at most."""
        self._closing.set()
        self._thread.join(5.0)


def _is_stable(member: Any) -> bool:
    return bool(member.state == library().structs.MemberState.STABLE)


def _listener(reader: KafkaReader) -> Any:

    class Listener(library().AsyncConsumerRebalanceListener):  # type: ignore[misc] # untyped in kafka-python
        async def on_partitions_revoked(self, revoked: Any) -> None:
            finished: Any = library().future.Future()
            reader.revoked([one.partition for one in revoked], finished)
            await finished

        async def on_partitions_assigned(self, assigned: Any) -> None:
            _log.info("stream %s: got partitions %s", reader.options.topic, sorted(one.partition for one in assigned))

        async def on_partitions_lost(self, lost: Any) -> None:
            reader.lost([one.partition for one in lost])

    return Listener()


def _records(partition: int, raw: Sequence[Any]) -> list[Record]:
    place = f"{partition}-"
    return [
        Record(
            place + str(one.offset),
            TOMBSTONE if one.value is None else one.value,
            None if one.key is None else one.key.decode("utf-8", "replace"),
            headers_of(one.headers) if one.headers else NO_HEADERS,
            1,
            one.timestamp / 1000,
        )
        for one in raw
    ]
