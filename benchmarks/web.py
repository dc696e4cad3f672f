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
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from flask import Flask
from prometheus_fastapi_instrumentator import Instrumentator

from benchmarks._table import Row
from smw.testing import isolated
from smw.web import MonitoringMiddleware, fastapi, flask

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "web"
PEER = "prometheus-fastapi-instrumentator"
FLASK_PEER = "prometheus_flask_exporter"
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


class Empty:
    """The least that a middleware can be."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class EmptyWsgi(Empty):
    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)


def application(prepare: Callable[[FastAPI], object] = lambda app: app, routes: int = 0) -> FastAPI:
    app = FastAPI(openapi_url=None)
    for number in range(routes):
        app.add_api_route(f"/r{number}/{{x}}", lambda x: x)

    @app.get("/hello/{name}")
    async def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    prepare(app)
    return app


def with_peer(app: FastAPI) -> object:
    from prometheus_client import CollectorRegistry

    return Instrumentator(registry=CollectorRegistry()).instrument(app)


def flask_application(prepare: Callable[[Flask], object] = lambda app: app, routes: int = 0) -> Flask:
    app = Flask("bench")
    for number in range(routes):
        app.add_url_rule(f"/r{number}/<x>", f"r{number}", lambda x: x)

    @app.get("/hello/<name>")
    def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    prepare(app)
    return app


def wrapped(make: Callable[[Any], Any]) -> Callable[[Flask], object]:
    def prepare(app: Flask) -> None:
        app.wsgi_app = make(app.wsgi_app)  # type: ignore[method-assign]

    return prepare


def with_flask_peer(app: Flask) -> object:
    from prometheus_client import CollectorRegistry
    from prometheus_flask_exporter import PrometheusMetrics

    return PrometheusMetrics(app, registry=CollectorRegistry(), group_by="url_rule")


async def drive_flask(app: Flask, requests: int) -> None:
    """Drive as a server does; asynchronous only in name, so that both frameworks are measured by the same loop."""

    def start_response(status: str, _headers: Any, _exc_info: Any = None) -> Any:
        if status != "200 OK":
            message = f"the application answered {status}"
            raise RuntimeError(message)

    for _ in range(requests):
        body = app({**ENVIRON}, start_response)
        for _piece in body:
            pass
        body.close()  # type: ignore[attr-defined]


async def drive(app: FastAPI, requests: int) -> None:
    for _ in range(requests):
        incoming = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"", "more_body": False}]
        sent = []

        async def receive(incoming: list[Any] = incoming) -> Any:
            return incoming.pop()

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        await app({**SCOPE, "state": {}}, receive, send)
        if sent[0]["status"] != 200:
            message = f"the application answered {sent[0]['status']}"
            raise RuntimeError(message)


def added_us(variants: dict[str, Any], drive: Any, *, rounds: int, requests: int) -> dict[str, float]:
    """Return what each variant adds to the bare one (whose own cost is given), in microseconds of CPU a request."""
    taken: dict[str, list[float]] = {name: [] for name in variants}

    async def run() -> None:
        for app in variants.values():
            await drive(app, 300)
        for _ in range(rounds):
            for name, app in variants.items():
                gc.collect()
                started = time.process_time_ns()
                await drive(app, requests)
                taken[name].append((time.process_time_ns() - started) / requests / 1000)

    asyncio.run(run())
    bare = taken.pop("bare")
    added = {
        name: statistics.median(a - b for a, b in zip(figures, bare, strict=True)) for name, figures in taken.items()
    }
    return {"bare": statistics.median(bare), **added}


def measure(
    task: str, variants: dict[str, Any], peer: str, *, rounds: int, requests: int, target: str
) -> list[Row]:  # fmt: skip
    driver = drive if isinstance(variants["bare"], FastAPI) else drive_flask
    added = added_us(variants, driver, rounds=rounds, requests=requests)
    targets = {"smw monitoring": target}
    uncompared = ("bare", "empty middleware")
    return [
        Row(task, name, value, "us", None if name in uncompared else value / added[peer], targets.get(name))
        for name, value in added.items()
    ]


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - every benchmark has this signature
    """Measure what metrics and the whole stack add to a request, with one route and behind fifty."""
    rounds, requests = (5, 500) if quick else (9, 2_000)
    rows: list[Row] = []
    with isolated("production", monitor={"logs": "off"}, security={"rate_limit": None}):
        for routes, task in ((0, "added to a request, CPU"), (50, "the same behind 50 other routes")):
            variants: dict[str, Any] = {
                "bare": application(routes=routes),
                "empty middleware": application(lambda app: app.add_middleware(Empty), routes),
                "smw monitoring": application(lambda app: app.add_middleware(MonitoringMiddleware), routes),
                "smw whole stack": application(fastapi.install, routes),
                PEER: application(with_peer, routes),
            }
            rows += measure(task, variants, PEER, rounds=rounds, requests=requests, target="<= 0.3")
        for routes, task in ((0, "added to a Flask request, CPU"), (50, "Flask behind 50 other routes")):
            variants = {
                "bare": flask_application(routes=routes),
                "empty middleware": flask_application(wrapped(EmptyWsgi), routes),
                "smw monitoring": flask_application(wrapped(MonitoringMiddleware), routes),
                "smw whole stack": flask_application(flask.install, routes),
                FLASK_PEER: flask_application(with_flask_peer, routes),
            }
            rows += measure(task, variants, FLASK_PEER, rounds=rounds, requests=requests, target="<= 0.6")
    return rows
