"""Settles handled records in batches as large as the store's own speed makes them; knows no handlers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from smw.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from smw._kernel.clock import Clock
    from smw.pipeline.ports import Stream
    from smw.pipeline.retry import Backoff

__all__ = ["Settler"]

_MOST = 1_000


class Settler:
    """Collects positions while the last batch is on its way, then sends them together.

    Args:
        stream: Where to settle.
        clock: For the waits while the store is away.
        backoff: How long those are.
        settled: Is told the positions once the store has confirmed them.
    """

    def __init__(self, stream: Stream, clock: Clock, backoff: Backoff, settled: Callable[[list[str]], None]) -> None:
        self._stream = stream
        self._clock = clock
        self._backoff = backoff
        self._settled = settled
        self._waiting: list[str] = []
        self._any = asyncio.Event()
        self._flushing = asyncio.Lock()

    def add(self, position: str) -> None:
        """Settle `position` soon."""
        if not self._waiting:
            self._any.set()
        self._waiting.append(position)

    async def run(self) -> None:
        """Settle what is added, until cancelled; a store that is away is asked again."""
        while True:
            await self._any.wait()
            try:
                await self.flush()
                self._backoff.reset()
            except Unavailable:
                await self._clock.sleep(self._backoff.next_s())

    async def flush(self) -> None:
        """Settle everything added so far.

        Raises:
            Unavailable: The store did not confirm; what it did not confirm is kept.
        """
        async with self._flushing:
            while self._waiting:
                batch = self._waiting[:_MOST]
                await self._stream.settle(batch)
                del self._waiting[: len(batch)]
                self._settled(batch)
            self._any.clear()
