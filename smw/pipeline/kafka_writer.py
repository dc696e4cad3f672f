"""Appends to Kafka topics through one idempotent producer, all replicas in sync confirming; knows no readers.

kafka-python's ``send`` may block (for metadata of a topic, for a first connection), so one thread of ours calls it
and never the event loop. What could not be handed over in time is dropped from the queue and reported, so that a
caller who was told of a failure does not find the record in the topic much later. A producer that did not deliver
in time is replaced: an idempotent one of kafka-python may never deliver anything again after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any

from smw.errors import BackpressureError, RecordError, SmwError, Unavailable
from smw.pipeline.kafka_client import Address, closed, opened, translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.clock import Clock
    from smw.pipeline.ports import Entry

__all__ = ["KafkaWriter"]

BUFFER_BYTES = 64 * 2**20
_SLACK_S = 0.5


class _Job:
    """Some entries for one topic, and who waits for their positions."""

    def __init__(self, topic: str, entries: Sequence[Entry], until: float) -> None:
        self.topic = topic
        self.entries = entries
        self.until = until
        self.size = sum(len(entry.value) for entry in entries)
        self.given_up = False
        self.producer: Any = None
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[list[str]] = self._loop.create_future()
        self._positions: list[str] = [""] * len(entries)
        self._left = len(entries)
        self._lock = threading.Lock()

    def stored(self, index: int, metadata: Any) -> None:
        """Note where one entry is; called by the producer's thread."""
        self._positions[index] = f"{metadata.partition}-{metadata.offset}"
        with self._lock:
            self._left -= 1
            done = not self._left
        if done:
            self._tell(self.answer.set_result, self._positions)

    def failed(self, error: BaseException) -> None:
        """Report that an entry was not stored."""
        self._tell(self.answer.set_exception, error)

    def _tell(self, report: Any, what: Any) -> None:
        def now() -> None:
            if not self.answer.done():
                report(what)

        with contextlib.suppress(RuntimeError):  # that loop has closed
            self._loop.call_soon_threadsafe(now)


class KafkaWriter:
    """One producer, connected when it is first needed.

    Args:
        address: The cluster.
        timeout_s: Most that appending may take.
        clock: Says what is too late.
    """

    def __init__(self, address: Address, *, timeout_s: float, clock: Clock) -> None:
        self._address = address
        self._timeout_s = max(0.2, timeout_s)
        self._clock = clock
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._producer: Any = None
        self._sick: Any = None
        self._bytes = 0

    async def append(self, topic: str, entries: Sequence[Entry]) -> list[str]:
        """Append entries and return their positions, once the replicas in sync have them.

        Raises:
            Unavailable: They were not confirmed in time; some may be stored all the same.
            BackpressureError: Too much waits already; nothing was appended.
            RecordError: An entry is too large for the topic.
        """
        job = _Job(topic, entries, self._clock.now() + self._timeout_s)
        if self._bytes and self._bytes + job.size > BUFFER_BYTES:
            raise BackpressureError("SMW-P130", f"{self._bytes} bytes wait for the topic {topic!r} already")
        self._bytes += job.size
        try:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="smw-kafka-writer", daemon=True)
                self._thread.start()
            self._jobs.put(job)
            async with asyncio.timeout(self._timeout_s + _SLACK_S):
                return await job.answer
        except TimeoutError:
            self._blame(job)
            raise Unavailable("SMW-P131", self._slow(topic), seen="timeout") from None
        except SmwError:
            raise
        except Exception as error:
            raise self._meaning(error, topic) from error
        finally:
            job.given_up = True
            self._bytes -= job.size

    def _slow(self, topic: str) -> str:
        return f"the Kafka at {self._address.shown} did not confirm a record of {topic!r} within {self._timeout_s:g} s"

    def _meaning(self, error: BaseException, topic: str) -> SmwError:
        if type(error).__name__ in ("MessageSizeTooLargeError", "RecordListTooLargeError"):
            fix = "keep large data elsewhere and emit its place, or raise the topic's max.message.bytes"
            return RecordError("SMW-P124", f"a record is too large for the topic {topic!r}", fix=fix)
        return translated(error, self._address, topic)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.given_up:
                continue
            try:
                self._send(self._connected(job.until), job)
            except BaseException as error:  # noqa: BLE001 - reported to who waits; this thread goes on
                job.failed(error)
        if self._producer is not None:
            _end(self._producer, self._timeout_s + 1.0)

    def _connected(self, until: float) -> Any:
        """Return the producer; a new one after an error that it does not recover from."""
        if self._sick is not None:
            self._drop()
        while self._producer is None:
            left_s = until - self._clock.now()
            try:
                self._producer = self._open(min(1.0, max(0.05, left_s)))
            except Exception as error:
                is_permanent = not isinstance(translated(error, self._address, ""), Unavailable)
                if is_permanent or self._clock.now() >= until:
                    raise
                self._clock.pause(0.05)
        return self._producer

    def _open(self, connect_s: float) -> Any:
        timeout_ms = int(self._timeout_s * 1000)
        return opened(
            "KafkaProducer",
            self._address,
            connect_s=connect_s,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=timeout_ms,
            request_timeout_ms=min(timeout_ms, 10_000),
            max_block_ms=timeout_ms,
            max_request_size=16 * 2**20,  # the topic's own limit decides
        )

    def _send(self, producer: Any, job: _Job) -> None:
        job.producer = producer
        for index, entry in enumerate(job.entries):
            if job.given_up:
                return
            future = producer.send(
                job.topic,
                value=entry.value,
                key=None if entry.key is None else entry.key.encode(),
                headers=[(name, value.encode()) for name, value in entry.headers.items()],
            )
            future.add_callback(job.stored, index)
            future.add_errback(self._failed, job)

    def _failed(self, job: _Job, error: BaseException) -> None:
        self._blame(job)
        job.failed(error)

    def _blame(self, job: _Job) -> None:
        """Have the producer of a job that failed replaced, unless that was done already."""
        if job.producer is not None and job.producer is self._producer:
            self._sick = job.producer

    def _drop(self) -> None:
        """Let the producer go without waiting: it does not close before its records are delivered or expire."""
        producer, self._producer, self._sick = self._sick, None, None
        threading.Thread(target=_end, args=(producer, self._timeout_s + 1.0), daemon=True).start()

    def close(self) -> None:
        """Let the producer go, with what it has been given; blocks for up to about two seconds."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join(2.0)


def _end(producer: Any, timeout_s: float) -> None:
    """Close a producer once its records are delivered or expired; one that does neither is made to give them up."""
    if not closed(producer.close, timeout=timeout_s):
        if (sender := getattr(producer, "_sender", None)) is not None:
            sender.force_close()
        closed(producer.close, timeout=1.0)
