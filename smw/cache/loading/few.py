"""Runs jobs of one event loop, so many at a time, and keeps what comes of many calls; knows no cache."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from types import TracebackType

__all__ = ["Few", "Results"]


class Few:
    """Jobs that are begun in a block, each when it is its turn; the block ends when all of them have, or cancels them.

    Args:
        most: How many run at once.
    """

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Return the jobs, of which there are none."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Wait until all have ended.

        Raises:
            BaseException: What the first job has raised that has raised something.
        """
        if error is not None:
            self._cancel()
        if self._tasks:
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError:
                self._cancel()
                raise
        if error is None and self._lost is not None:
            self._lost.result()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def begin(self, job: Callable[[], Coroutine[object, object, None]]) -> None:
        """Begin a job once it is its turn."""
        await self._free.acquire()
        task = asyncio.get_running_loop().create_task(job())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free.release()
        if self._lost is None and (task.cancelled() or task.exception() is not None):
            self._lost = task


class Results:
    """What many calls have come to, by their numbers.

    Args:
        count: How many calls there are.
    """

    def __init__(self, count: int) -> None:
        self._values: list[Any] = [None] * count
        self._errors: dict[int, BaseException] = {}

    def put(self, numbers: Sequence[int], values: Sequence[Any]) -> None:
        """Note a result for each call."""
        for number, value in zip(numbers, values, strict=True):
            self._values[number] = value

    def fail(self, numbers: Sequence[int], error: BaseException) -> None:
        """Note what each call has raised."""
        self._errors.update(dict.fromkeys(numbers, error))

    async def keep(self, numbers: Sequence[int], job: Callable[[], Awaitable[list[Any]]]) -> None:
        """Note what comes of a job that returns a result for each call."""
        try:
            self.put(numbers, await job())
        except Exception as error:  # noqa: BLE001 - raised once all have ended
            self.fail(numbers, error)

    def taken(self) -> list[Any]:
        """Return all results, or raise what the first call that failed has raised."""
        if self._errors:
            raise self._errors[min(self._errors)]
        return self._values
