"""On an event loop that is not asyncio's, such as trio's, smw serves, stores and flushes as on asyncio's."""

from __future__ import annotations

import json
import logging

import pytest
from fastapi import FastAPI, Response

from smw._kernel import current
from smw.runtime import Runtime
from smw.web import MonitoringMiddleware
from smw.web.fastapi import install
from tests.unit.web.driving import scope_of


def drive(coroutine):
    """Run a coroutine to its end without any event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for an event loop")


def ask(app, target):
    """Return status and body of a GET."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    drive(app(scope_of("GET", target), receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def nothing(_scope, _receive, _send):
    raise AssertionError("the application was asked")


def test_metrics_are_served(runtime):
    """Rendering needs a thread on asyncio alone."""
    status, body = ask(MonitoringMiddleware(nothing), "/metrics")
    assert status == 200
    assert b"# TYPE active_connections gauge" in body


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_checks_are_run(runtime, path):
    """Blocking probes and awaiting ones both answer."""

    async def awaiting():
        return True

    runtime.monitor.health.add("blocking", lambda: True)
    runtime.monitor.health.add("awaiting", awaiting)
    status, body = ask(MonitoringMiddleware(nothing), path)
    assert status == 200
    assert set(json.loads(body)["checks"]) == {"blocking", "awaiting"}


def test_responses_are_stored_and_used(runtime):
    """The response cache asks its stores blocking."""
    made = []
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})

    @app.get("/news")
    async def _news():
        made.append(1)
        return Response(b"news", headers={"cache-control": "max-age=60"})

    install(app)
    assert [ask(app, "/news") for _ in range(2)] == [(200, b"news")] * 2
    assert made == [1]


def test_the_end_of_the_application_flushes(caplog):
    """Every part is closed, and none of them asks for a loop that is not there."""
    runtime = Runtime("testing", environ={})
    before = current.use(runtime)
    parts = [runtime.part(name) for name in ("cache", "monitor", "security", "pipeline")]
    closed = []
    for part in parts:
        part.close = lambda part=part: closed.append(part)
    incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent = []

    async def app(_scope, receive, send):
        for answer in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{answer}.complete"})

    async def receive():
        return next(incoming)

    async def send(message):
        sent.append(message["type"])

    try:
        drive(MonitoringMiddleware(app)({"type": "lifespan"}, receive, send))
    finally:
        current.use(before)
        for part in parts:
            type(part).close(part)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert sorted(map(id, closed)) == sorted(map(id, parts))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
