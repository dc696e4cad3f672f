"""Declares every metric smw exports: name, kind, labels, buckets; nothing else spells a metric name out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DECLARED", "Instrument", "business_total", "business_value"]

Kind = Literal["counter", "gauge", "histogram", "summary"]

OTHER = "other"
"""Label of what is not one of the known values, such as an invented HTTP method."""
OVERFLOW = "overflow"
"""Label of the series that takes what comes after the limit of series."""
UNMATCHED = "unmatched"
"""Route of a request that no route of the application served."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric as it is declared.

    Args:
        name: Exposed name; counters end in ``_total``.
        kind: What it is in Prometheus.
        help: One line for people.
        labels: Label names. The values are bounded and never personal.
        buckets: Upper bounds of a histogram, ascending, without infinity.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_ROUTE = ("method", "route", "status")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_VALUES = tuple(step * 10.0**power for power in range(-2, 5) for step in (1.0, 2.5, 5.0))

HTTP_REQUESTS = Instrument("http_requests_total", "counter", "Requests answered; 499: the client left.", _ROUTE)
HTTP_DURATION = Instrument(
    "http_request_duration_seconds", "histogram", "Seconds to the last byte of the answer.", _ROUTE, _SECONDS
)
HTTP_SIZE = Instrument("http_request_size_bytes", "summary", "Bytes of the request body.", ("method", "route"))
HTTP_ROWS = Instrument("smw_http_rows", "histogram", "", _ROUTE, _SECONDS)
"""What the three metrics above are kept as between workers: buckets, sum of seconds, sum of bytes. Never shown."""
CONNECTIONS = Instrument("active_connections", "gauge", "Requests in flight and open WebSockets.")
MEMORY = Instrument("memory_usage_bytes", "gauge", "Resident memory of this process.")
MEMORY_LIMIT = Instrument("smw_memory_limit_bytes", "gauge", "Memory this process may use: its cgroup's limit, or RAM.")
CPU = Instrument("cpu_usage_percent", "gauge", "CPU used by this process; 100 is all that it was allotted.")
CACHE_REQUESTS = Instrument(
    "smw_cache_requests_total", "counter", "Lookups of decorated functions.", ("fn", "level", "outcome")
)
CACHE_UNCACHED = Instrument("smw_cache_uncached_total", "counter", "Calls that could not be cached.", ("fn", "reason"))
BACKEND_UP = Instrument("smw_backend_up", "gauge", "1 while the breaker of a backend is closed.", ("backend",))
BACKEND_DOWN = Instrument("smw_backend_down_total", "counter", "Openings of a backend's breaker.", ("backend",))
DENIED = Instrument("smw_access_denied_total", "counter", "Calls refused by a control.", ("fn", "control"))
SHADOWED = Instrument(
    "smw_access_shadowed_total", "counter", "Calls a control would have refused, but only watched.", ("fn", "control")
)
TRAIL_FAILURES = Instrument("smw_audit_failures_total", "counter", "Records that the audit log could not take.")
BLOCKED = Instrument(
    "smw_requests_blocked_total", "counter", "Requests that a web policy answered.", ("policy", "reason")
)
STREAM_RECORDS = Instrument(
    "smw_stream_records_total", "counter", "Stream records by what became of them.", ("stream", "outcome")
)
BATCH_RUNS = Instrument("smw_batch_runs_total", "counter", "Batch jobs that ended.", ("name",))
BATCH_ROWS = Instrument(
    "smw_batch_rows_total", "counter", "Rows of a batch job by what became of them.", ("job", "outcome")
)
DROPPED = Instrument("smw_telemetry_dropped_total", "counter", "Telemetry given up, by what it was.", ("kind",))

DECLARED: tuple[Instrument, ...] = (
    HTTP_REQUESTS, HTTP_DURATION, HTTP_SIZE, CONNECTIONS, MEMORY, MEMORY_LIMIT, CPU, CACHE_REQUESTS, CACHE_UNCACHED,
    BACKEND_UP, BACKEND_DOWN, DENIED, SHADOWED, TRAIL_FAILURES, BLOCKED, STREAM_RECORDS, BATCH_RUNS, BATCH_ROWS,
    DROPPED,
)  # fmt: skip
"""All of them but the business metrics, which are named by users."""

ACROSS: Mapping[str, Literal["max", "min"]] = {
    "smw_backend_up": "min",
    "smw_cache_breaker_state": "max",
    "smw_stream_lag_records": "max",
}
"""Gauges that several workers see the same thing by; all others add up over the workers."""

BUSINESS_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,99}")
LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,99}")
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
OUTCOMES = ("success", "error", "cancelled")


def business_total(name: str) -> Instrument:
    """Return the counter of a business metric."""
    return Instrument(f"business_{name}_total", "counter", f"Calls counted as {name}.", ("outcome",))


def business_value(name: str) -> Instrument:
    """Return the histogram of a business metric's values."""
    return Instrument(f"business_{name}_value", "histogram", f"Values of {name}.", (), _VALUES)
