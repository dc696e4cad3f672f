"""Calls a stream's function with records, sync or async, each in a context of its own; judges no failure."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smw._kernel.bridge import in_thread
from smw.errors import RecordError
from smw.pipeline.isolate import isolated
from smw.pipeline.ports import TOMBSTONE

if TYPE_CHECKING:
    from smw.pipeline.ports import Record
    from smw.pipeline.registry import Job

__all__ = ["Handler", "RecordContext", "Restore"]

Restore = Callable[[Mapping[str, str]], AbstractContextManager[Any]]
"""Takes a record's headers and returns what to enter around its handling, such as the caller's trace."""


@dataclass(frozen=True, slots=True)
class RecordContext:
    """What a handler may know of its record besides the value; a parameter named ``ctx`` gets it.

    Args:
        stream: Name of the stream.
        position: The record's place there.
        key: Its key.
        headers: Its headers.
        attempt: Number of this attempt, from 1.
        at: When it was appended, seconds since the epoch.
    """

    stream: str
    position: str
    key: str | None
    headers: Mapping[str, str]
    attempt: int
    at: float

    @property
    def idempotency_id(self) -> str:
        """The same for every attempt and delivery of this record, and for no other record."""
        return f"{self.stream}/{self.position}"


class Handler:
    """A job's function, ready to take records.

    Args:
        job: The job.
        restore: What to enter around the handling of a record that has headers.
    """

    def __init__(self, job: Job, restore: Restore | None = None) -> None:
        self.many = job.shape.many
        self.convert = job.shape.convert
        self._fn = job.fn
        self._name = job.name
        self._wants_context = job.shape.wants_context
        self._is_async = job.shape.is_async
        self._restore = restore

    @functools.cached_property
    def takes_null(self) -> bool:
        """Whether the function takes a record without a value."""
        try:
            self.convert(TOMBSTONE)
        except RecordError:
            return False
        return True

    def one(self, record: Record) -> Awaitable[Any]:
        """Handle one record.

        Raises:
            RecordError: The record does not fit; trying again is useless.
        """
        if self._is_async:
            return isolated(self._one_async(record), contextvars.copy_context())
        return in_thread(_guarded, self._one, record)

    def batch(self, values: list[Any], records: Sequence[Record]) -> Awaitable[Any]:
        """Handle several records, converted before, in one call."""
        if self._is_async:
            return isolated(self._batch_async(values, records), contextvars.copy_context())
        return in_thread(_guarded, self._batch, values, records)

    async def _one_async(self, record: Record) -> Any:
        value = self.convert(record.value)
        if self.many:
            return await self._batch_async([value], [record])
        if record.headers or self._wants_context:
            with self._entered(record):
                return await self._fn(value, **self._context(record))
        return await self._fn(value)

    def _one(self, record: Record) -> Any:
        value = self.convert(record.value)
        if self.many:
            return self._batch([value], [record])
        with self._entered(record):
            return self._fn(value, **self._context(record))

    async def _batch_async(self, values: list[Any], records: Sequence[Record]) -> Any:
        return await self._fn(values, **self._contexts(records))

    def _batch(self, values: list[Any], records: Sequence[Record]) -> Any:
        return self._fn(values, **self._contexts(records))

    def _entered(self, record: Record) -> AbstractContextManager[Any]:
        if self._restore is None or not record.headers:
            return nullcontext()
        return self._restore(record.headers)

    def _context(self, record: Record) -> dict[str, Any]:
        return {"ctx": self._describe(record)} if self._wants_context else {}

    def _contexts(self, records: Sequence[Record]) -> dict[str, Any]:
        return {"ctx": [self._describe(record) for record in records]} if self._wants_context else {}

    def _describe(self, record: Record) -> RecordContext:
        return RecordContext(self._name, record.position, record.key, record.headers, record.attempt, record.at)


def _guarded(fn: Callable[..., Any], *args: Any) -> Any:
    """Call `fn`; a future cannot carry the `StopIteration` that a handler may let slip, and would never end."""
    try:
        return fn(*args)
    except StopIteration as error:
        raise RuntimeError("the handler raised StopIteration") from error
