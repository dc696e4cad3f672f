"""What watching costs: a counted request, a business metric, a span, a scrape; beside prometheus_client and the SDK."""

from __future__ import annotations

import asyncio
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.utils import floatToGoString

from benchmarks._table import Row, nanoseconds
from smw.monitor import Monitor
from smw.monitor.instruments import HTTP_DURATION

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "monitor"
KEY = ("GET", "/users/{user_id}", "200")
SERIES = 1000
ROUTES = 50


class Children:
    """The same four metrics by prometheus_client."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ("method", "route", "status")
        self.requests = Counter("http_requests", "x", names, registry=self.registry)
        bounds = HTTP_DURATION.buckets
        self.duration = Histogram("http_request_duration_seconds", "x", names, buckets=bounds, registry=self.registry)
        self.size = Summary("http_request_size_bytes", "x", names[:2], registry=self.registry)
        self.active = Gauge("active_connections", "x", registry=self.registry)


def _bound(children: Children) -> Callable[[int], None]:
    requests, duration = children.requests.labels(*KEY), children.duration.labels(*KEY)
    size, active = children.size.labels(*KEY[:2]), children.active

    def calls(count: int) -> None:
        for _ in range(count):
            active.inc()
            requests.inc()
            duration.observe(0.031)
            size.observe(0)
            active.dec()

    return calls


def _labelled(children: Children) -> Callable[[int], None]:
    def calls(count: int) -> None:
        for _ in range(count):
            children.active.inc()
            children.requests.labels(*KEY).inc()
            children.duration.labels(*KEY).observe(0.031)
            children.size.labels(*KEY[:2]).observe(0)
            children.active.dec()

    return calls


def _own(monitor: Monitor) -> Callable[[int], None]:
    http = monitor.http

    def calls(count: int) -> None:
        for _ in range(count):
            http.started()
            http.finished("GET", "/users/{user_id}", 200, 0.031, 0)

    return calls


def _requests(number: int) -> list[Row]:
    task = "count one request: requests, duration, size, in flight"
    bound = nanoseconds(_bound(Children()), number=number)
    labelled = nanoseconds(_labelled(Children()), number=number)
    own = nanoseconds(_own(Monitor()), number=number)
    with TemporaryDirectory() as folder, Monitor(workers_dir=folder) as monitor:
        shared = nanoseconds(_own(monitor), number=number)
    return [
        Row(task, "prometheus_client, children bound", bound, "ns"),
        Row(task, "prometheus_client, labels() each time", labelled, "ns", labelled / bound),
        Row(task, "smw monitor.http", own, "ns", own / bound, "<= 0.5"),
        Row(task, "smw monitor.http, shared by workers (beside private)", shared, "ns", shared / own, "<= 1.2"),
    ]


def _sync(fn: Callable[[], Any], number: int) -> float:
    def calls(count: int) -> None:
        for _ in range(count):
            fn()

    return nanoseconds(calls, number=number)


def _async(fn: Callable[[], Any], number: int) -> float:
    async def loop(count: int) -> None:
        for _ in range(count):
            await fn()

    return nanoseconds(lambda count: asyncio.run(loop(count)), number=number)


def plain() -> int:
    """Return a number."""
    return 1


async def awaited() -> int:
    """Return a number."""
    return 1


def _counted(counter: Counter, fn: Callable[[], int]) -> Callable[[], int]:
    success, error = counter.labels("success"), counter.labels("error")

    def inner() -> int:
        try:
            result = fn()
        except BaseException:
            error.inc()
            raise
        success.inc()
        return result

    return inner


def _decorators(number: int) -> list[Row]:
    monitor = Monitor()
    task = "a decorated call that does nothing"
    by_hand = _sync(_counted(Counter("sold", "x", ("outcome",), registry=None), plain), number)
    sold = _sync(monitor.track_business_metric("sold")(plain), number)
    idle = _sync(monitor.trace("idle")(plain), number)
    return [
        Row(task, "undecorated", _sync(plain, number), "ns"),
        Row(task, "undecorated, async", _async(awaited, number), "ns"),
        Row(task, "counted by hand with prometheus_client", by_hand, "ns"),
        Row(task, "@track_business_metric", sold, "ns", sold / by_hand),
        Row(
            task, "@track_business_metric, async", _async(monitor.track_business_metric("sold")(awaited), number), "ns"
        ),
        Row(task, "@trace, nobody looks", idle, "ns", None, "<= 500 ns"),
    ]


def _spans(number: int, patch: Callable[[Any], Any]) -> list[Row]:
    task = "a call in a span, recorded by the SDK and dropped"
    provider = TracerProvider(shutdown_on_exit=False)
    before = patch(provider)
    try:
        tracer = provider.get_tracer("bench")

        def by_hand() -> int:
            with tracer.start_as_current_span("work"):
                return plain()

        hand = _sync(by_hand, number)
        own = _sync(Monitor().trace("work")(plain), number)
    finally:
        patch(before)
    return [
        Row(task, "start_as_current_span", hand, "ns"),
        Row(task, "@trace", own, "ns", own / hand, "<= 1.2"),
    ]


def _patch(provider: Any) -> Any:
    from opentelemetry import trace

    before = trace._TRACER_PROVIDER  # noqa: SLF001 - the public setter works once a process
    trace._TRACER_PROVIDER = provider  # noqa: SLF001 - the same
    return before


def _scrape(rounds: int) -> list[Row]:
    task = f"exposition of {SERIES} series of method, route, status"
    children, monitor = Children(), Monitor()
    for number in range(SERIES):
        key = ("GET", f"/r{number}/{{x}}", "200")
        children.requests.labels(*key).inc()
        children.duration.labels(*key).observe(0.031)
        children.size.labels(*key[:2]).observe(0)
        monitor.http.finished("GET", key[1], 200, 0.031, 0)

    def theirs(count: int) -> None:
        for _ in range(count):
            generate_latest(children.registry)

    def ours(count: int) -> None:
        for _ in range(count):
            monitor.exposition()

    peer = nanoseconds(theirs, number=1, rounds=rounds) / 1e6
    own = nanoseconds(ours, number=1, rounds=rounds) / 1e6
    return [
        Row(task, "prometheus_client", peer, "ms"),
        Row(task, "smw monitor.exposition", own, "ms", own / peer, "<= 1.2"),
    ]


def _their_files(folder: str, worker: int) -> None:
    """Write what a worker under prometheus_client's multiprocess mode leaves after a request on each route."""
    names = ["method", "route", "status"]
    counts = MmapedDict(f"{folder}/counter_{worker}.db")
    times = MmapedDict(f"{folder}/histogram_{worker}.db")
    for number in range(ROUTES):
        key = ["GET", f"/r{number}/{{x}}", "200"]
        counts.write_value(mmap_key("http_requests", "http_requests_total", names, key, "x"), 1.0, 0.0)
        metric = "http_request_duration_seconds"
        times.write_value(mmap_key(metric, f"{metric}_sum", names, key, "x"), 0.031, 0.0)
        for bound in (*HTTP_DURATION.buckets, float("inf")):
            bucket = mmap_key(metric, f"{metric}_bucket", [*names, "le"], [*key, floatToGoString(bound)], "x")
            times.write_value(bucket, float(bound == 0.05), 0.0)
    counts.close()
    times.close()


def _merge(workers: int, rounds: int) -> list[Row]:
    task = f"add up {workers} workers of {ROUTES} routes each, without text"
    with TemporaryDirectory() as theirs, TemporaryDirectory() as ours:
        for worker in range(workers):
            _their_files(theirs, worker)
        collector = MultiProcessCollector(None, theirs)
        monitors = [Monitor(workers_dir=ours).open() for _ in range(workers)]
        for monitor in monitors:
            for number in range(ROUTES):
                monitor.http.finished("GET", f"/r{number}/{{x}}", 200, 0.031, 0)

        def peers(count: int) -> None:
            for _ in range(count):
                list(collector.collect())

        def own(count: int) -> None:
            for _ in range(count):
                list(monitors[0].readings())

        peer_ms = nanoseconds(peers, number=1, rounds=rounds) / 1e6
        own_ms = nanoseconds(own, number=1, rounds=rounds) / 1e6
        for monitor in monitors:
            monitor.close()
    return [
        Row(task, "prometheus_client, multiprocess mode", peer_ms, "ms"),
        Row(task, "smw monitor, workers_dir", own_ms, "ms", own_ms / peer_ms, "<= 0.5"),
    ]


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark like this
    """Measure counting, decorating, tracing, scraping, and adding up over workers."""
    number = 20_000 if quick else 200_000
    rounds = 3 if quick else 7
    merged = [row for workers in ((1, 8) if quick else (1, 8, 64)) for row in _merge(workers, rounds)]
    return [*_requests(number), *_decorators(number), *_spans(number // 20, _patch), *_scrape(rounds), *merged]
