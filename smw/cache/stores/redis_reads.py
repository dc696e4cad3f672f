"""Makes one MGET of the reads of one tick of an event loop; knows neither values nor deadlines of servers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from smw.cache.stores.redis_lines import AwaitingLines

__all__ = ["Reads", "SlotReads"]

MOST_KEYS = 256
"""A batch that has so many is sent, and the next read begins another: a reply must not grow without end."""
_SAME_S = 0.005


class _Batch:
    """Reads that travel together: each with the places of its keys among those of all, and how long it waits."""

    __slots__ = ("first_s", "last_s", "places", "sent", "waiters")

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.waiters: list[tuple[asyncio.Future[Any], list[int], float]] = []
        self.first_s = float("inf")
        self.last_s = self.sent = 0.0


class Reads:
    """The reads of one event loop.

    One that finds none on its way is sent at once. The others of its tick, and those of every later tick until it
    has returned, are collected until the tick ends. From then on each waits no longer than its own time-out: what the
    tick itself takes is not the server's, and many callers at once would leave it nothing. Each may be cancelled
    without harm to the others; a failure reaches all that travel together. When the last deadline passes the
    connection is cut off.

    Args:
        lines: The connections of the loop.
    """

    def __init__(self, lines: AwaitingLines) -> None:
        self._lines = lines
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._under_way = 0
        self._batch: _Batch | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, timeout_s: float, keys: Sequence[str]) -> Any:
        """Return what the server has under `keys`, in this order; None where its reply has another shape.

        Raises:
            LagError: The event loop was too busy to take it in within `timeout_s`, or to ask at all.
            TimeoutError: It did not come within `timeout_s`.
        """
        if not self._under_way:
            self._under_way = 1
            try:
                return await self._lines.run(timeout_s, "MGET", *keys)
            finally:
                self._under_way -= 1
        return await self._join(timeout_s, keys)

    def _join(self, timeout_s: float, keys: Sequence[str]) -> asyncio.Future[Any]:
        batch = self._batch
        if batch is None or len(batch.places) >= MOST_KEYS:
            batch = self._batch = _Batch()
            self._loop.call_soon(self._send, batch)
        places = batch.places
        asked = [places.setdefault(key, len(places)) for key in keys]
        future = self._loop.create_future()
        batch.waiters.append((future, asked, timeout_s))
        batch.first_s = min(batch.first_s, timeout_s)
        batch.last_s = max(batch.last_s, timeout_s)
        return future

    def _send(self, batch: _Batch) -> None:
        if self._batch is batch:
            self._batch = None
        task = self._loop.create_task(self._fetch(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, batch: _Batch) -> None:
        timer, batch.sent = None, self._now()
        if batch.last_s - batch.first_s > _SAME_S:
            timer = self._loop.call_at(batch.sent + batch.first_s, self._release, batch)
        self._under_way += 1
        try:
            reply = await self._ask(batch.last_s, batch.places)
        except BaseException as error:
            lost = error if isinstance(error, Exception) else ConnectionAbortedError("the event loop ended")
            for future, _, _ in batch.waiters:
                if not future.done():
                    future.set_exception(lost)
            if lost is not error:
                raise
        else:
            fits = isinstance(reply, list) and len(reply) == len(batch.places)
            for future, asked, _ in batch.waiters:
                if not future.done():
                    future.set_result([reply[place] for place in asked] if fits else None)
        finally:
            self._under_way -= 1
            if timer is not None:
                timer.cancel()

    async def _ask(self, timeout_s: float, names: Iterable[str]) -> Any:
        return await self._lines.run(timeout_s, "MGET", *names)

    def _release(self, batch: _Batch) -> None:
        self._loop.call_soon(self._let_go, batch)  # what has arrived is taken in first

    def _let_go(self, batch: _Batch) -> None:
        """Let go those whose deadline has come before the others'."""
        had_s = self._now() - batch.sent
        left = [waiter for waiter in batch.waiters if not waiter[0].done()]
        for future, _, timeout_s in left:
            if timeout_s <= had_s:
                future.set_exception(TimeoutError())
        later = [timeout_s for _, _, timeout_s in left if timeout_s > had_s]
        if later and min(later) < batch.last_s:
            self._loop.call_at(batch.sent + min(later), self._release, batch)


class SlotReads(Reads):
    """The reads of one event loop of one node of a cluster: one MGET for each slot, all at once on one connection.

    Names begin with their hash tag. Where a slot is refused, the error stands in the place of each of its values.
    """

    async def _ask(self, timeout_s: float, names: Iterable[str]) -> Any:
        asked, slots = list(names), dict[str, list[str]]()
        for name in asked:
            slots.setdefault(name[: name.index("}")], []).append(name)
        replies = await self._lines.run_all(timeout_s, [("MGET", *those) for those in slots.values()])
        shown: dict[str, Any] = {}
        for those, reply in zip(slots.values(), replies, strict=True):
            refused = isinstance(reply, Exception)
            if not refused and (not isinstance(reply, list) or len(reply) != len(those)):
                return None
            shown.update(dict.fromkeys(those, reply) if refused else zip(those, reply, strict=True))
        return [shown[name] for name in asked]
