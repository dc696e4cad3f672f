"""Runs a batch job: rows in, so many a call, rows out, refused rows aside; knows no file format."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, MutableSequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smw._kernel.bridge import in_thread
from smw._kernel.facts import Fact
from smw._kernel.signals import BatchDone
from smw.errors import ConfigError, RecordError
from smw.pipeline.loops import in_loop
from smw.pipeline.rows import ListSink, Quarantine, Reject, RejectList, Row, Sink

if TYPE_CHECKING:
    from smw._kernel.host import Host
    from smw.pipeline.registry import Job

__all__ = ["BatchResult", "RowTally", "run", "run_async"]

_log = logging.getLogger("smw.pipeline")
_ROWS_AT_ONCE = 64
_MOST_REJECTS = 10_000
_SHOWN = 100
_ROWS = "Rows of a batch job by what became of them."
Call = Callable[[list[Any]], Awaitable[Any]]


class RowTally:
    """The figures of one batch job since the start."""

    __slots__ = ("name", "read", "rejected", "written")

    def __init__(self, name: str) -> None:
        self.name = name
        self.read = self.rejected = self.written = 0

    def facts(self) -> Iterable[Fact]:
        """Yield the figures with their names."""
        for outcome in ("read", "written", "rejected"):
            labels = (("job", self.name), ("outcome", outcome))
            yield Fact("smw_batch_rows_total", "counter", _ROWS, labels, getattr(self, outcome))


@dataclass(slots=True)
class BatchResult:
    """What one run of a batch job did.

    Args:
        name: The job.
        rows_in: Rows read, refused ones included.
        rows_out: Rows written.
        rejected: Rows refused.
        rejects: The first hundred of those (all of them, when they go to no file).
        rejected_path: The file that has all of them; None where there is none.
        rows: The rows, unless they went elsewhere.
    """

    name: str
    rows_in: int = 0
    rows_out: int = 0
    rejected: int = 0
    rejects: list[Reject] = field(default_factory=list)
    rejected_path: Path | None = None
    rows: list[Any] | None = None


class _Run:
    """One run: gathers rows, calls the function with each full batch, writes what it returns."""

    def __init__(self, job: Job, sink: Sink, quarantine: Quarantine, size: int, call: Call) -> None:
        self.result = BatchResult(job.name)
        self.sink, self.quarantine = sink, quarantine
        self._job, self._size, self._call = job, size, call
        self._rows: list[Row] = []
        self._warned = False

    def accept(self, row: Row | Reject) -> bool:
        """Take one row; True when a batch is full."""
        self.result.rows_in += 1
        if isinstance(row, Reject):
            self.refuse(row)
            return False
        try:
            self._rows.append(Row(row.number, self._job.shape.convert(row.value)))
        except RecordError as error:
            self.refuse(Reject(row.number, error.what, row.value))
        return len(self._rows) >= self._size

    def refuse(self, reject: Reject) -> None:
        """Put a row aside."""
        self.quarantine.add(reject)
        self.result.rejected += 1
        if len(self.result.rejects) < _SHOWN:
            self.result.rejects.append(reject)

    async def flush(self) -> None:
        """Call the function with the rows gathered so far."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        try:
            returned = await self._called(rows)
        except Exception as error:
            error.add_note(f"in the batch job {self._job.name!r}, rows {rows[0].number} to {rows[-1].number}")
            raise
        written = [row for row in self._checked(returned) if row is not None]
        self.sink.write(written)
        self.result.rows_out += len(written)

    async def _called(self, rows: list[Row]) -> Any:
        if self._job.shape.many:
            return await self._call([row.value for row in rows])
        if not self._job.shape.is_async:
            return [await self._one(row) for row in rows]
        slots = asyncio.Semaphore(_ROWS_AT_ONCE)

        async def one(row: Row) -> Any:
            async with slots:
                return await self._one(row)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(row)) for row in rows]
        return [task.result() for task in tasks]

    async def _one(self, row: Row) -> Any:
        try:
            return await self._call(row.value)
        except RecordError as error:
            self.refuse(Reject(row.number, error.what, row.value))
            return None

    def _checked(self, returned: Any) -> Iterable[Any]:
        if returned is None:
            if not self._warned:
                self._warned = True
                _log.warning("batch job %s returned None; its result has no rows for such calls", self._job.name)
            return ()
        if isinstance(returned, str | bytes | Mapping) or not isinstance(returned, Iterable):
            raise RecordError(
                "SMW-P155",
                f"the batch job {self._job.name!r} returned {type(returned).__name__}, not a list of rows",
                fix="return a list; or annotate the parameter as one row, to be called row by row",
            )
        return returned

    async def over(self, rows: Iterable[Row | Reject] | AsyncIterable[Row | Reject]) -> BatchResult:
        """Run over all rows, then make the result visible; on an error nothing is."""
        try:
            if isinstance(rows, AsyncIterable):
                async for row in rows:
                    if self.accept(row):
                        await self.flush()
            else:
                for row in rows:
                    if self.accept(row):
                        await self.flush()
            await self.flush()
        except BaseException:
            self.sink.abort()
            self.quarantine.abort()
            raise
        self.quarantine.commit()
        self.sink.commit()
        return self.result


def _numbered(rows: Iterable[Any]) -> Iterator[Row]:
    return (Row(number, value) for number, value in enumerate(rows, 1))


async def _numbered_async(rows: AsyncIterable[Any]) -> AsyncIterable[Row]:
    number = 0
    async for value in rows:
        number += 1
        yield Row(number, value)


def _rows_of(source: Any) -> Any:
    if isinstance(source, str | Path):
        from smw.pipeline import formats

        return formats.read(Path(source))
    if isinstance(source, AsyncIterable):
        return _numbered_async(source)
    if isinstance(source, bytes | Mapping) or not isinstance(source, Iterable):
        message = "source= takes rows or the path of a file"
        raise ConfigError("SMW-P156", message, seen=type(source).__name__, fix='source="in.csv" or a list of dicts')
    return _numbered(source)


def _prepare(job: Job, to: Any, size: int, call: Call, host: Host) -> _Run:
    quarantine: Quarantine
    if isinstance(to, str | Path):
        from smw.pipeline import formats
        from smw.pipeline.formats.jsonl import RejectFile

        path, token = Path(to), host.entropy.token_bytes(6).hex()
        quarantine = RejectFile(path.with_name(f"{path.name}.rejected.jsonl"), token)
        return _Run(job, formats.sink(path, token), quarantine, size, call)
    if to is not None and not isinstance(to, MutableSequence):
        message = "to= takes the path of a file, a list, or None"
        raise ConfigError("SMW-P156", message, seen=type(to).__name__, fix='to="out.jsonl"')
    rows: MutableSequence[Any] = [] if to is None else to
    quarantine = RejectList(job.name, _MOST_REJECTS)
    prepared = _Run(job, ListSink(rows), quarantine, size, call)
    if to is None:
        prepared.result.rows = rows if isinstance(rows, list) else list(rows)
    return prepared


def _finish(run: _Run, tally: RowTally, host: Host) -> BatchResult:
    result = run.result
    tally.read += result.rows_in
    tally.written += result.rows_out
    tally.rejected += result.rejected
    if isinstance(run.quarantine, RejectList):
        result.rejects = run.quarantine.rejects
    path = getattr(run.quarantine, "path", None)
    result.rejected_path = path if result.rejected else None
    if result.rejected:
        _log.warning("batch job %s: %d of %d rows refused", result.name, result.rejected, result.rows_in)
    host.bus.send(BatchDone(result.name, result.rows_out))
    return result


def run(job: Job, source: Any, to: Any, *, size: int, tally: RowTally, host: Host) -> BatchResult:
    """Run a job to its end from blocking code; an async function gets an event loop for the whole run."""
    needs_loop = job.shape.is_async or isinstance(source, AsyncIterable)
    if needs_loop and in_loop():
        raise ConfigError(
            "SMW-P157",
            f"pipeline.run({job.name!r}) would block the event loop that its async function needs",
            fix=f"await pipeline.run_over({job.name!r}, rows), or call run in a thread: asyncio.to_thread",
        )
    rows = _rows_of(source)
    prepared = _prepare(job, to, size, job.fn if job.shape.is_async else _direct(job.fn), host)
    work = prepared.over(rows)
    if needs_loop:
        asyncio.run(work)
    else:
        _drive(work)
    return _finish(prepared, tally, host)


async def run_async(job: Job, source: Any, *, size: int, tally: RowTally, host: Host) -> BatchResult:
    """Run a job over rows from async code; a sync function runs in threads."""

    async def threaded(argument: Any) -> Any:
        return await in_thread(job.fn, argument)

    prepared = _prepare(job, None, size, job.fn if job.shape.is_async else threaded, host)
    await prepared.over(_rows_of(source))
    return _finish(prepared, tally, host)


def _direct(fn: Any) -> Call:
    async def call(argument: Any) -> Any:
        return fn(argument)

    return call


def _drive(work: Any) -> None:
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise RuntimeError("a batch job of a plain function suspended")
