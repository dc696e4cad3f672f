"""Counts HTTP exchanges on the hot path of the web adapter; knows routes as templates only, and no framework."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from typing import TYPE_CHECKING

from smw.monitor.cells import Cells, Labels, Losses, Reading, clean, moved
from smw.monitor.instruments import (
    CONNECTIONS,
    HTTP_DURATION,
    HTTP_REQUESTS,
    HTTP_ROWS,
    HTTP_SIZE,
    METHODS,
    OTHER,
    OVERFLOW,
    UNMATCHED,
)
from smw.monitor.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from smw.monitor.instruments import Instrument

__all__ = ["HttpMeter", "shown"]

_STATUSES = range(100, 600)
_BOUNDS = HTTP_DURATION.buckets
_SLOTS = len(_BOUNDS) + 1
_SUM = _SLOTS
_SIZE = _SLOTS + 1
_Key = tuple[str, str | None, int | str]


class HttpMeter:
    """Requests, durations, sizes and connections.

    One row of cells serves four metrics: the count of requests is the count of the histogram and of the summary.
    All updates happen under one re-entrant lock, so no request is lost between threads.

    Args:
        limit: Rows kept; requests with further labels share one row per status.
        losses: Where reaching the limit is reported.
        memory: Where the cells are kept.
    """

    __slots__ = ("_active", "_limit", "_lock", "_losses", "_memory", "_rows")

    def __init__(self, *, limit: int, losses: Losses, memory: Memory | None = None) -> None:
        self._memory = memory or Memory()
        self._limit = limit
        self._losses = losses
        self._lock = threading.RLock()
        self._rows: dict[_Key, Cells] = {}
        self._active = self._memory.cells(CONNECTIONS, (), 1)

    def started(self) -> None:
        """Count a connection that opened: a request, or a WebSocket."""
        with self._lock:
            self._active[0] += 1.0

    def ended(self) -> None:
        """Count a connection that closed and is no request: a WebSocket, or a path that is left out."""
        with self._lock:
            self._active[0] -= 1.0

    def finished(self, method: str, route: str | None, status: int, duration_s: float, request_bytes: int = 0) -> None:
        """Count a request that has ended, and its connection as closed.

        Args:
            method: As sent; unknown ones count as ``other``.
            route: Template of the route that served it; None where none did.
            status: Status sent; 499 when the client left before.
            duration_s: Seconds to the last byte of the answer.
            request_bytes: Bytes of its body.
        """
        row = self._rows.get((method, route, status)) or self._row(method, route, status)
        if not 0.0 <= duration_s < math.inf:
            duration_s = 0.0
        slot = bisect_left(_BOUNDS, duration_s)
        with self._lock:
            row[slot] += 1.0
            row[_SUM] += duration_s
            if request_bytes > 0:
                row[_SIZE] += request_bytes
            self._active[0] -= 1.0

    def _row(self, method: str, route: str | None, status: int) -> Cells:
        """Find or make a row. Only normalised labels become keys, so that nobody outside can fill the table."""
        key: _Key = (
            method if method in METHODS else OTHER,
            UNMATCHED if route is None else clean(route),
            status if status in _STATUSES else OTHER,
        )
        with self._lock:
            row = self._rows.get(key)
            if row is not None:
                return row
            full = len(self._rows) >= self._limit
            if full:
                key = (OTHER, OVERFLOW, key[2])
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = self._new(key)
        if full:
            why = "metric %s has reached %d series; further routes are counted as %r"
            self._losses.lost("series", why, HTTP_REQUESTS.name, self._limit, OVERFLOW)
        return row

    def _new(self, key: _Key) -> Cells:
        return self._memory.cells(HTTP_ROWS, _labels(key), _SLOTS + 2)

    def settle(self) -> None:
        """Move to the cells that the memory hands out now."""
        with self._lock:
            self._rows = {key: moved(row, self._new(key)) for key, row in self._rows.items()}
            self._active = moved(self._active, self._memory.cells(CONNECTIONS, (), 1))

    def after_fork(self) -> None:
        """Start from zero in a forked child: the parent's connections stay the parent's."""
        self._lock = threading.RLock()
        self._rows = {}
        self._active = self._memory.cells(CONNECTIONS, (), 1)

    def rows(self) -> Iterator[tuple[Instrument, list[tuple[Labels, list[float]]]]]:
        """Yield a consistent copy of the rows as they are kept, for `shown`, and of the connections."""
        with self._lock:
            rows = [(_labels(key), list(row)) for key, row in self._rows.items()]
            active = list(self._active)
        yield HTTP_ROWS, rows
        yield CONNECTIONS, [((), active)]

    def read(self) -> Iterator[Reading]:
        """Yield the four metrics, taken from one consistent copy."""
        (_, rows), (_, active) = self.rows()
        yield from shown(rows)
        yield Reading(CONNECTIONS, active)


def _labels(key: _Key) -> Labels:
    method, route, status = key
    return ("method", method), ("route", str(route)), ("status", str(status))


def shown(rows: Iterable[tuple[Labels, list[float]]]) -> Iterator[Reading]:
    """Yield the three metrics that rows stand for."""
    requests: list[tuple[Labels, list[float]]] = []
    durations: list[tuple[Labels, list[float]]] = []
    sizes: dict[Labels, list[float]] = {}
    for labels, row in rows:
        count = sum(row[:_SLOTS])
        requests.append((labels, [count]))
        durations.append((labels, row[:_SIZE]))
        size = sizes.setdefault(labels[:2], [0.0, 0.0])
        size[0] += count
        size[1] += row[_SIZE]
    yield Reading(HTTP_REQUESTS, requests)
    yield Reading(HTTP_DURATION, durations)
    yield Reading(HTTP_SIZE, list(sizes.items()))
