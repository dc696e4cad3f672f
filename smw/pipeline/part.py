"""The pipeline as one object: its settings, its jobs, its streams, and everything users do with them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, MutableSequence
from typing import TYPE_CHECKING, Any, TypeVar

from smw._kernel.bridge import Portal, in_thread
from smw._kernel.host import Host
from smw._kernel.process import after_fork
from smw._kernel.standing import Standing
from smw._kernel.told import plainly
from smw.errors import BackpressureError
from smw.pipeline import batch, decorators
from smw.pipeline.delivery import Delivery, Limits
from smw.pipeline.emitter import append
from smw.pipeline.handler import Handler, Restore
from smw.pipeline.loops import in_loop
from smw.pipeline.over import IterableStream, RunSummary
from smw.pipeline.ports import NO_HEADERS, Entry, Record, Stream
from smw.pipeline.registry import SHARED, Job, Kind, Registry, check_name, unknown
from smw.pipeline.retry import Backoff, Retry
from smw.pipeline.serving import Serving
from smw.pipeline.sources import Sources
from smw.pipeline.tally import Tally
from smw.pipeline.values import encode
from smw.settings import PipelineSettings, build

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from smw._kernel.facts import Fact
    from smw.pipeline.batch import BatchResult
    from smw.pipeline.deadletter import DeadLetter

__all__ = ["Pipeline"]

F = TypeVar("F", bound=Callable[..., Any])


class Pipeline:
    """Streams and batch jobs.

    It serves what its own decorators registered, and what the decorators of ``smw.pipeline`` did. Making one does no
    I/O; connections open when they are first needed.

    Args:
        settings: `PipelineSettings` or a mapping.
        host: Clock, randomness, bus and facts; a runtime gives its own.
        carry: Puts what must travel with an emitted record (such as the trace) into its headers.
        restore: Takes a record's headers and returns what to enter around its handling.
        options: Settings by name; they win over `settings`.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """

    def __init__(
        self,
        settings: PipelineSettings | Mapping[str, Any] | None = None,
        *,
        host: Host | None = None,
        carry: Callable[[dict[str, str]], None] | None = None,
        restore: Restore | None = None,
        **options: Any,
    ) -> None:
        self.settings = build(PipelineSettings, settings, options)
        self.host = host or Host()
        self.carry = carry
        self.restore = restore
        self._registry = Registry()
        self._sources = Sources(self.settings, self.host)
        self._serving = Serving()
        self._portal: Portal | None = None
        self._tallies: dict[str, Tally] = {}
        self._batches: dict[str, batch.RowTally] = {}
        self._emitting = 0
        self._remove_facts = self.host.facts.add(self._facts)
        self._remove_standing = self.host.standings.add(self._standing)
        after_fork(self._forked)

    # --- decorators --------------------------------------------------------------------------------------------------

    @plainly("@stream_process", '@pipeline.stream_process("user_events")')
    def stream_process(
        self,
        name: str,
        *,
        source: str | Stream | None = None,
        group: str | None = None,
        retry: Retry | None = None,
        dead_letter: bool = True,
    ) -> Callable[[F], F]:
        """Make a function the handler of a stream of this pipeline; see `smw.pipeline.stream_process`."""
        advice = decorators.stream_advice(self._registry, name, source, group, retry, dead_letter=dead_letter)
        return decorators.register(advice)

    @plainly("@batch_transform", '@pipeline.batch_transform("playlist_analytics")')
    def batch_transform(self, name: str, *, batch_size: int | None = None) -> Callable[[F], F]:
        """Make a function a batch job of this pipeline; see `smw.pipeline.batch_transform`."""
        return decorators.register(decorators.batch_advice(self._registry, name, batch_size))

    def _find(self, name: str) -> Job | None:
        return self._registry.get(name) or SHARED.get(name)

    def _job(self, name: str, kind: Kind) -> Job:
        job = self._find(name)
        if job is None or job.kind != kind:
            raise unknown(name, kind, self._names(kind))
        return job

    def _names(self, kind: Kind) -> list[str]:
        return sorted({*self._registry.names(kind), *SHARED.names(kind)})

    # --- streams -----------------------------------------------------------------------------------------------------

    async def emit(
        self, name: str, value: Any, key: str | None = None, *, headers: Mapping[str, str] | None = None
    ) -> str:
        """Append a value to a stream; it is safe there once this returns.

        Args:
            name: The stream.
            value: A dict, dataclass, pydantic model, anything else with a JSON form, or bytes.
            key: Records of one key are handled in order; None orders nothing.
            headers: What travels beside the value.

        Returns:
            The record's position.

        Raises:
            BackpressureError: The stream stayed full, or its store away, for ``emit_timeout_s``.
            ConfigError: Nobody in this process handles the in-memory stream `name`.
            RecordError: The value has no JSON form.
        """
        source = self._source_of(name)
        return await self._append(name, source, self._entry(value, key, headers))

    def emit_sync(
        self, name: str, value: Any, key: str | None = None, *, headers: Mapping[str, str] | None = None
    ) -> str:
        """Do what `emit` does, from blocking code."""
        source, entry = self._source_of(name), self._entry(value, key, headers)
        if self._portal is None:
            self._portal = Portal("smw-pipeline")
        return self._portal.call(self._append(name, source, entry))

    def _source_of(self, name: str) -> Any:
        job = self._find(name)
        if job is not None and job.kind == "stream":
            return job.source
        if self._sources.is_memory(None):
            raise unknown(name, "stream", self._names("stream"))
        check_name(name)
        return None

    def _entry(self, value: Any, key: str | None, headers: Mapping[str, str] | None) -> Entry:
        carried: Mapping[str, str] = headers or NO_HEADERS
        if self.carry is not None:
            filled = dict(carried)
            self.carry(filled)
            carried = filled
        return Entry(encode(value), None if key is None else str(key), carried)

    def in_memory(self, name: str) -> bool:
        """Tell whether what waits in the stream `name` is gone with this process."""
        return self._sources.is_memory(self._source_of(name))

    async def _append(self, name: str, source: Any, entry: Entry) -> str:
        if self._emitting >= self.settings.stream_buffer_size:
            message = f"{self._emitting} emits wait already; the stream {name!r} takes no more"
            raise BackpressureError("SMW-P130", message, fix="slow down, or raise stream_buffer_size")
        self._emitting += 1
        try:
            position = await append(
                self._sources.writer(name, source),
                entry,
                clock=self.host.clock,
                backoff=Backoff(self.host.entropy),
                timeout_s=self.settings.emit_timeout_s,
            )
        finally:
            self._emitting -= 1
        self._tally(name).emitted += 1
        return position

    async def serve(
        self,
        name: str,
        source: str | Stream | None = None,
        *,
        stop: asyncio.Event | None = None,
        until_empty: bool = False,
    ) -> None:
        """Handle the records of a stream until cancelled or stopped.

        Args:
            name: The stream.
            source: Where from, instead of the decorator's ``source``; a `Stream` object is closed at the end.
            stop: End when this is set; ``pipeline.stop(name)`` does the same.
            until_empty: End once no record waits and none is in work.

        Raises:
            RecordError: A record was given up and ``dead_letter=False``; it is unsettled. Or records were deleted
                before they were handled, and ``stream_on_gap`` is ``"stop"``.
            ConfigError: The name or the source is unknown.
        """
        job = self._job(name, "stream")
        handler = Handler(job, self.restore)
        stream = self._sources.reader(name, job.source if source is None else source, job.group)
        try:
            delivery = self._delivery(job, handler, stream, self._tally(name), until_empty=until_empty)
            await self._serving.run(name, delivery, stop)
        finally:
            await stream.close()

    def _delivery(
        self,
        job: Job,
        handler: Handler,
        stream: Stream,
        tally: Tally,
        *,
        until_empty: bool = False,
        done: Callable[[Record, Any], None] | None = None,
    ) -> Delivery:
        settings, size = self.settings, self._size(job)
        limits = Limits(
            buffer=settings.stream_buffer_size,
            batch=size,
            fetch=max(500, min(size, 5_000)) if handler.many else 500,
            drain_s=settings.drain_s,
            tend_s=min(5.0, settings.claim_idle_s / 3),
        )
        return Delivery(
            stream, handler, retry=job.retry, dead_letter=job.dead_letter, host=self.host, tally=tally,
            limits=limits, stop_at_gap=settings.stream_on_gap == "stop", until_empty=until_empty, done=done,
        )  # fmt: skip

    def stop(self, name: str | None = None) -> None:
        """Tell `serve` of a stream, or of all, to stop gracefully; from any thread or signal handler of the loop."""
        self._serving.stop(name)

    async def dead_letters(self, name: str, limit: int = 100) -> list[DeadLetter]:
        """Return the oldest dead letters of a stream. They stay where they are.

        Args:
            name: The stream whose records were given up.
            limit: Most letters to return.
        """
        return list(await self._sources.writer(name, self._job(name, "stream").source).letters(limit))

    async def run_over(
        self,
        name: str,
        records: Iterable[Any] | AsyncIterable[Any],
        *,
        key: Callable[[Any], str | None] | None = None,
        results: bool = False,
    ) -> RunSummary | BatchResult:
        """Run a stream's handler over records, with the same retries and dead letters, but without a stream.

        Args:
            name: The stream whose handler to run; or a batch job, which then runs without blocking the event loop.
            records: Values as the handler takes them, or bytes as they would come from a stream.
            key: Takes a value, returns its key; values of one key are handled in order.
            results: Keep what the handler returns.

        Raises:
            RecordError: A record was given up and ``dead_letter=False``, or more than ``stream_buffer_size`` were.
        """
        found = self._find(name)
        if found is not None and found.kind == "batch":
            return await batch.run_async(found, records, size=self._size(found), tally=self._rows(name), host=self.host)
        job = self._job(name, "stream")
        stream = IterableStream(
            name, records, clock=self.host.clock, key=key, most_dead=self.settings.stream_buffer_size
        )
        tally, returned = Tally(name), dict[int, Any]()
        keep = (lambda record, result: returned.__setitem__(int(record.position), result)) if results else None
        try:
            await self._delivery(job, Handler(job, self.restore), stream, tally, done=keep).run()
        finally:
            await stream.close()
            total = self._tally(name)
            total.done, total.retried, total.dead = (
                total.done + tally.done, total.retried + tally.retried, total.dead + tally.dead
            )  # fmt: skip
        ordered = [returned.get(n) for n in range(stream.taken)] if results else None
        return RunSummary(name, tally.done, tally.retried, stream.dead_letters, ordered)

    # --- batch -------------------------------------------------------------------------------------------------------

    def run(
        self,
        name: str,
        source: str | Path | Iterable[Any] | AsyncIterable[Any],
        to: str | Path | MutableSequence[Any] | None = None,
        *,
        batch_size: int | None = None,
    ) -> BatchResult:
        """Run a batch job over rows, in bounded memory when `source` is bounded and `to` is a file.

        Args:
            name: The job.
            source: Rows, or a file whose name ends in ``.csv``, ``.jsonl`` or ``.ndjson``.
            to: A file of one of those kinds, written beside and renamed when all is well; or a list to extend.
                None returns the rows in the result.
            batch_size: Rows a call, instead of the job's.

        Raises:
            ConfigError: The name, or the kind of a file, is unknown.
            RecordError: The source has no usable header, or the function returned no rows.
        """
        job = self._job(name, "batch")
        size = self._size(job, batch_size)
        return batch.run(job, source, to, size=size, tally=self._rows(name), host=self.host)

    def _size(self, job: Job, given: int | None = None) -> int:
        return given or job.batch_size or self.settings.batch_size

    def _rows(self, name: str) -> batch.RowTally:
        return self._batches.setdefault(name, batch.RowTally(name))

    # --- life --------------------------------------------------------------------------------------------------------

    def _tally(self, name: str) -> Tally:
        return self._tallies.setdefault(name, Tally(name))

    def _facts(self) -> Iterable[Fact]:
        for tally in list(self._tallies.values()):
            yield from tally.facts()
        for rows in list(self._batches.values()):
            yield from rows.facts()

    def _standing(self) -> Iterable[Standing]:
        for name in self._serving.names():
            tally = self._tally(name)
            lag = "" if tally.lag is None else f", to do: {tally.lag}"
            yield Standing(f"stream.{name}", is_well=True, seen=f"in flight: {tally.in_flight}{lag}")

    def _forked(self) -> None:
        self._sources.forget()
        self._serving = Serving()
        self._portal = None
        self._emitting = 0

    def close(self) -> None:
        """Stop serving and close what blocking code has opened; idempotent.

        What is served in another thread is waited for; what the calling thread's own loop serves ends as soon as
        that loop runs on.
        """
        left = self._serving.stop()
        if not in_loop():
            for event in left:
                event.wait(self.settings.drain_s * 2 + 1)
        self._close_portal()

    async def aclose(self) -> None:
        """Stop serving, wait for it, and close the connections of this event loop; idempotent."""
        for event in self._serving.stop():
            while not event.is_set():
                await self.host.clock.sleep(0.005)
        await self._sources.close_writers()
        await in_thread(self._close_portal)

    def _close_portal(self) -> None:
        portal, self._portal = self._portal, None
        if portal is not None:
            portal.call(self._sources.close_writers())
            portal.close()
        self._remove_facts()
        self._remove_standing()
