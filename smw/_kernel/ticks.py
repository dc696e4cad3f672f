"""Gathers what coroutines bring in one tick of an event loop, for one task to deal with; knows not what that is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Ticks"]

B = TypeVar("B")


class Ticks(Generic[B]):
    """The batches of one event loop, each of which is open until the tick ends in which it was begun.

    Args:
        begin: Returns an empty batch.
        deal: Called with a batch when its tick has ended; what it returns runs in a task of its own.
        is_full: Tells that what comes next begins another batch; None: none ever is.
    """

    __slots__ = ("_begin", "_deal", "_is_full", "_open", "_tasks")

    def __init__(
        self,
        begin: Callable[[], B],
        deal: Callable[[B], Coroutine[Any, Any, None]],
        is_full: Callable[[B], bool] | None = None,
    ) -> None:
        self._begin = begin
        self._deal = deal
        self._is_full = is_full
        self._open: B | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # the loop holds them weakly

    def batch(self) -> B:
        """Return the batch to which the caller may add."""
        batch = self._open
        if batch is None or (self._is_full is not None and self._is_full(batch)):
            batch = self._open = self._begin()
            asyncio.get_running_loop().call_soon(self._end, batch)
        return batch

    def _end(self, batch: B) -> None:
        if self._open is batch:
            self._open = None
        task = asyncio.get_running_loop().create_task(self._deal(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
