"""Counts HTTP exchanges on the hot path of the web adapter; knows routes as templates only, and no framework."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from typing import TYPE_CHECKING

from smw.monitor.cells import Labels, Losses, Reading, clean
from smw.monitor.instruments import (
    CONNECTIONS,
    HTTP_DURATION,
    HTTP_REQUESTS,
    HTTP_SIZE,
    METHODS,
    OTHER,
    OVERFLOW,
    UNMATCHED,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HttpMeter"]

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
    """

    __slots__ = ("_active", "_limit", "_lock", "_losses", "_rows")

    def __init__(self, *, limit: int, losses: Losses) -> None:
        self._limit = limit
        self._losses = losses
        self._lock = threading.RLock()
        self._rows: dict[_Key, list[float]] = {}
        self._active = 0

    def started(self) -> None:
        """Count a connection that opened: a request, or a WebSocket."""
        with self._lock:
            self._active += 1

    def ended(self) -> None:
        """Count a connection that closed and is no request: a WebSocket, or a path that is left out."""
        with self._lock:
            self._active -= 1

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
            row[slot] += 1
            row[_SUM] += duration_s
            if request_bytes > 0:
                row[_SIZE] += request_bytes
            self._active -= 1

    def _row(self, method: str, route: str | None, status: int) -> list[float]:
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
            row = self._rows.setdefault(key, [0.0] * (_SLOTS + 2))
        if full:
            why = "metric %s has reached %d series; further routes are counted as %r"
            self._losses.lost("series", why, HTTP_REQUESTS.name, self._limit, OVERFLOW)
        return row

    def after_fork(self) -> None:
        """Start from zero in a forked child: the parent's connections stay the parent's."""
        self._lock = threading.RLock()
        self._rows = {}
        self._active = 0

    def read(self) -> Iterator[Reading]:
        """Yield the four metrics, taken from one consistent copy."""
        with self._lock:
            rows = [(key, row.copy()) for key, row in self._rows.items()]
            active = float(self._active)
        requests: list[tuple[Labels, list[float]]] = []
        durations: list[tuple[Labels, list[float]]] = []
        sizes: dict[Labels, list[float]] = {}
        for (method, route, status), row in rows:
            path: Labels = (("method", method), ("route", str(route)))
            labels = (*path, ("status", str(status)))
            count = sum(row[:_SLOTS])
            requests.append((labels, [count]))
            durations.append((labels, row[:_SIZE]))
            size = sizes.setdefault(path, [0.0, 0.0])
            size[0] += count
            size[1] += row[_SIZE]
        yield Reading(HTTP_REQUESTS, requests)
        yield Reading(HTTP_DURATION, durations)
        yield Reading(HTTP_SIZE, list(sizes.items()))
        yield Reading(CONNECTIONS, [((), [active])])
