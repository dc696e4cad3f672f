"""What one request costs more with smw in front: FastAPI and Flask driven in process, beside their usual exporters.

Every variant serves ``GET /hello/{name}``. Rounds go over the variants in turn, each figure is
CPU time per request minus that of the bare application in the same round, and the median over rounds is printed.
"""

from __future__ import annotations

import asyncio
import gc
import io
import statistics
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from benchmarks import _web_apps as apps
from benchmarks._table import Row, absent
from benchmarks._web_apps import Empty, EmptyWsgi, Providers, added
from smw.testing import isolated
from smw.web import MonitoringMiddleware, fastapi, flask

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "web"
PEER = "prometheus-fastapi-instrumentator"
FLASK_PEER = "prometheus_flask_exporter"
OTEL_PEER = "OpenTelemetry FastAPI, metrics + one span"
OTEL_WSGI_PEER = "OpenTelemetry WSGI, metrics + span"
INSTALL = "the package is not installed"
NO_FLASK = "opentelemetry-instrumentation-flask is not installed: no release of it for this version of the SDK"
HEADERS = [(b"host", b"bench"), (b"user-agent", b"bench"), (b"accept", b"*/*")]
SCOPE = {
    "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
    "path": "/hello/bob", "raw_path": b"/hello/bob", "query_string": b"", "root_path": "", "scheme": "http",
    "headers": HEADERS, "client": ("192.0.2.1", 5000), "server": ("bench", 80),
}  # fmt: skip
ENVIRON = {
    "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/hello/bob", "RAW_URI": "/hello/bob", "QUERY_STRING": "",
    "SERVER_NAME": "bench", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "192.0.2.1",
    "HTTP_HOST": "bench", "HTTP_USER_AGENT": "bench", "HTTP_ACCEPT": "*/*", "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.multithread": True,
    "wsgi.multiprocess": True, "wsgi.run_once": False,
}  # fmt: skip


async def drive_flask(app: Any, requests: int) -> None:
    """Drive as a server does; asynchronous only in name, so that both frameworks are measured by the same loop."""

    def start_response(status: str, _headers: Any, _exc_info: Any = None) -> Any:
        if status != "200 OK":
            message = f"the application answered {status}"
            raise RuntimeError(message)

    for _ in range(requests):
        body = app({**ENVIRON}, start_response)
        for _piece in body:
            pass
        body.close()


async def drive(app: FastAPI, requests: int) -> None:
    for _ in range(requests):
        incoming = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"", "more_body": False}]
        sent = []

        async def receive(incoming: list[Any] = incoming) -> Any:
            return incoming.pop()

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        await app({**SCOPE, "headers": [*HEADERS], "state": {}}, receive, send)
        if sent[0]["status"] != 200:
            message = f"the application answered {sent[0]['status']}"
            raise RuntimeError(message)


def added_us(variants: dict[str, Any], drive: Any, *, rounds: int, requests: int) -> dict[str, float]:
    """Return what each variant adds to the bare one (whose own cost is given), in microseconds of CPU a request."""
    taken: dict[str, list[float]] = {name: [] for name in variants}

    async def run() -> None:
        for app in variants.values():
            await drive(app, 300)
        gc.collect()
        gc.freeze()  # or each collection would go through two frameworks and their exporters
        for _ in range(rounds):
            for name, app in variants.items():
                gc.collect()
                started = time.process_time_ns()
                await drive(app, requests)
                taken[name].append((time.process_time_ns() - started) / requests / 1000)

    try:
        asyncio.run(run())
    finally:
        gc.unfreeze()
    bare = taken.pop("bare")
    over = {
        name: statistics.median(a - b for a, b in zip(figures, bare, strict=True)) for name, figures in taken.items()
    }
    return {"bare": statistics.median(bare), **over}


Variants = dict[str, "Callable[[], Any] | None"]


def measure(
    task: str, makers: Variants, peer: str, *, rounds: int, requests: int, targets: dict[str, str]
) -> list[Row]:
    """Measure the variants that can be made; the others are listed."""
    variants = {name: make() for name, make in makers.items() if make}
    driver = drive if isinstance(variants["bare"], FastAPI) else drive_flask
    over = added_us(variants, driver, rounds=rounds, requests=requests)
    base = over.get(peer)
    return [
        absent(task, name, NO_FLASK if name.startswith("OpenTelemetry Flask") else INSTALL) if name not in over
        else Row(
            task, name, over[name], "us",
            over[name] / base if base and name not in ("bare", "empty middleware") else None,
            targets.get(name) if base else None,
        )
        for name in makers
    ]  # fmt: skip


def fastapi_metrics(otel: Providers | None, routes: int) -> Variants:
    """Metrics alone, in front of FastAPI as it comes."""
    make = partial(apps.asgi, routes=routes)
    return {
        "bare": make,
        "empty middleware": partial(make, added(Empty)),
        "smw monitoring": partial(make, added(MonitoringMiddleware)),
        "smw whole stack": partial(make, fastapi.install),
        PEER: apps.instrumentator and partial(make, apps.with_instrumentator),
        "starlette_exporter": apps.starlette_exporter
        and partial(make, added(apps.starlette_exporter.PrometheusMiddleware, group_paths=True)),
        "OpenTelemetry ASGI, metrics": otel and apps.otel_asgi
        and partial(make, added(apps.otel_asgi.OpenTelemetryMiddleware, **otel.options(spans=False))),
        "OpenTelemetry FastAPI, metrics": otel and apps.otel_fastapi and partial(make, otel.fastapi(spans=False)),
        "FastAPI's own telemetry, metrics": otel and partial(make, telemetry=otel.native(spans=False)),
    }  # fmt: skip


def fastapi_spans(otel: Providers) -> Variants:
    """Metrics and a server span a request, in front of FastAPI without telemetry of its own."""
    make = partial(apps.asgi, telemetry=apps.SILENT)
    return {
        "bare": make,
        "smw monitoring, with span": partial(make, added(MonitoringMiddleware)),
        OTEL_PEER: apps.otel_fastapi and partial(make, otel.fastapi(spans=True, exclude_spans=["send", "receive"])),
        "OpenTelemetry FastAPI, metrics + spans as it comes": apps.otel_fastapi
        and partial(make, otel.fastapi(spans=True)),
        "OpenTelemetry ASGI, metrics + one span": apps.otel_asgi
        and partial(
            make,
            added(
                apps.otel_asgi.OpenTelemetryMiddleware, exclude_spans=["send", "receive"], **otel.options(spans=True)
            ),
        ),
        "FastAPI's own telemetry, metrics + one span": partial(apps.asgi, telemetry=otel.native(spans=True)),
    }


def flask_metrics(otel: Providers | None, routes: int) -> Variants:
    """Metrics alone, in front of Flask."""
    make = partial(apps.wsgi, routes=routes)
    return {
        "bare": make,
        "empty middleware": partial(make, added(EmptyWsgi)),
        "smw monitoring": partial(make, added(MonitoringMiddleware)),
        "smw whole stack": partial(make, flask.install),
        FLASK_PEER: apps.flask_exporter and partial(make, apps.with_flask_exporter),
        "OpenTelemetry WSGI, metrics": otel and apps.otel_wsgi
        and partial(make, added(apps.otel_wsgi.OpenTelemetryMiddleware, **otel.options(spans=False))),
        "OpenTelemetry Flask, metrics": otel and apps.otel_flask and partial(make, otel.flask(spans=False)),
    }  # fmt: skip


def flask_spans(otel: Providers) -> Variants:
    """Metrics and a server span a request, in front of Flask."""
    make = apps.wsgi
    return {
        "bare": make,
        "smw monitoring, with span": partial(make, added(MonitoringMiddleware)),
        OTEL_WSGI_PEER: apps.otel_wsgi
        and partial(make, added(apps.otel_wsgi.OpenTelemetryMiddleware, **otel.options(spans=True))),
        "OpenTelemetry Flask, metrics + span": apps.otel_flask and partial(make, otel.flask(spans=True)),
    }


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - every benchmark has this signature
    """Measure what metrics, spans and the whole stack add to a request, with one route and behind fifty."""
    amount: dict[str, int] = {"rounds": 3, "requests": 200} if quick else {"rounds": 9, "requests": 1_000}
    rows: list[Row] = []
    otel = Providers() if apps.sdk else None
    with isolated("production", monitor={"logs": "off"}, security={"rate_limit": None}):
        ours = {"smw monitoring": "<= 0.3"}
        for routes, task in ((0, "added to a request, CPU"), (50, "the same behind 50 other routes")):
            rows += measure(task, fastapi_metrics(otel, routes), PEER, targets=ours, **amount)
        ours = {"smw monitoring": "<= 0.6"}
        for routes, task in ((0, "added to a Flask request, CPU"), (50, "Flask behind 50 other routes")):
            rows += measure(task, flask_metrics(otel, routes), FLASK_PEER, targets=ours, **amount)
        if otel is None:
            return rows
        ours = {"smw monitoring, with span": "<= 1"}
        with otel.everywhere():
            task = "added to a request, spans recorded, CPU"
            rows += measure(task, fastapi_spans(otel), OTEL_PEER, targets=ours, **amount)
            task = "added to a Flask request, spans recorded, CPU"
            rows += measure(task, flask_spans(otel), OTEL_WSGI_PEER, targets=ours, **amount)
        otel.close()
    return rows
