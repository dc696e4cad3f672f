"""How the runtime's life follows the application's."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

import smw
from smw._kernel import current
from smw.errors import ConfigError
from smw.runtime import Runtime
from smw.web import MonitoringMiddleware, PipelineMiddleware, SecurityMiddleware
from tests.unit.web.driving import lifespan

STARTED_AND_STOPPED = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.fixture
def default():
    """A runtime nobody has entered or opened, current for the test."""
    runtime = Runtime("testing", environ={})
    before = current.use(runtime)
    yield runtime
    current.use(before)


async def test_startup_opens_and_shutdown_closes(default):
    """The runtime is open while the application lives, also in its own startup and shutdown code."""
    seen = []

    @asynccontextmanager
    async def life(_app):
        seen.append(default.is_open)
        yield
        seen.append(default.is_open)

    app = FastAPI(lifespan=life)
    app.add_middleware(MonitoringMiddleware)
    assert await lifespan(app) == STARTED_AND_STOPPED
    assert seen == [True, True]
    assert not default.is_open


async def test_a_runtime_somebody_has_entered_is_left_open(runtime):
    """Who opened it as a context manager closes it."""
    app = FastAPI()
    app.add_middleware(MonitoringMiddleware)
    assert await lifespan(app) == STARTED_AND_STOPPED
    assert runtime.is_open


async def test_a_configured_runtime_is_flushed(default):
    """Servers that die by a signal run no exit hooks, so the end of the application is the time to flush."""
    smw.configure("testing")
    app = FastAPI()
    app.add_middleware(SecurityMiddleware)
    await lifespan(app)
    assert not current.get().is_open


@pytest.mark.parametrize("how", ["raises", "returns"])
async def test_an_application_without_lifespan_is_stood_in_for(default, how):
    """What smw holds back is flushed even when the application knows no lifespan."""

    async def app(scope, _receive, _send):
        if how == "raises":
            raise AssertionError(scope["type"])

    assert await lifespan(MonitoringMiddleware(app)) == STARTED_AND_STOPPED
    assert not default.is_open


@pytest.mark.parametrize("where", ["outside", "inside"])
async def test_a_framework_that_fails_before_it_listens_is_not_stood_in_for(default, where):
    """A broken middleware of a FastAPI application stops the server as it does without smw."""

    class Broken:
        def __init__(self, app):
            pass

        async def __call__(self, scope, receive, send):
            raise OSError("broken middleware")

    app = FastAPI()
    app.add_middleware(Broken)
    if where == "inside":
        app.add_middleware(MonitoringMiddleware)
    else:
        app = MonitoringMiddleware(app)
    with pytest.raises(OSError, match="broken middleware"):
        await lifespan(app)


async def test_a_failing_startup_of_the_application_goes_on_unchanged(default):
    """The server hears what it would have heard without smw."""
    sent = []

    @asynccontextmanager
    async def life(_app):
        raise OSError("no database")
        yield

    app = FastAPI(lifespan=life)
    app.add_middleware(MonitoringMiddleware)

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message["type"])

    with pytest.raises(OSError, match="no database"):
        await app({"type": "lifespan", "state": {}}, receive, send)
    assert sent == ["lifespan.startup.failed"]
    assert not default.is_open


async def test_a_wrong_setting_stops_the_startup_and_is_named():
    """A server that would take an exception for missing lifespan support is told in words."""
    before = current.use(Runtime("testing", environ={"SECURITY_MAX_BODY_BYTES": "lots"}))
    sent = []

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message)

    async def app(scope, receive, _send):
        await receive()

    try:
        with pytest.raises(ConfigError):
            await SecurityMiddleware(app)({"type": "lifespan", "state": {}}, receive, send)
    finally:
        current.use(before)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "SECURITY_MAX_BODY_BYTES" in sent[0]["message"]


async def test_lifespan_state_reaches_requests_scope_untouched(default):
    """The application's own state passes by."""

    @asynccontextmanager
    async def life(_app):
        yield {"pool": 7}

    app = FastAPI(lifespan=life)
    app.add_middleware(PipelineMiddleware)
    state = {}
    await lifespan(app, state=state)
    assert state == {"pool": 7}
