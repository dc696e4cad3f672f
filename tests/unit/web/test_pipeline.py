"""Streams served in the application's process."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from smw import pipeline
from smw.errors import ConfigError
from smw.testing import isolated
from smw.web import PipelineMiddleware, create_pipeline_middleware
from tests.unit.web.driving import call, lifespan

handled: list[dict] = []


@pipeline.stream_process("web_in_app")
async def handle(event: dict) -> None:
    """Keep what came."""
    handled.append(event)


@pytest.fixture
def on_real_time():
    with isolated() as runtime:
        yield runtime


async def test_streams_are_served_while_the_application_lives(on_real_time):
    """What a request emits is handled in the process, and nothing is left when the application has stopped."""
    handled.clear()
    app = FastAPI()

    @app.get("/emit")
    async def _emit():
        await pipeline.emit("web_in_app", {"n": 1})
        return 1

    app.add_middleware(create_pipeline_middleware(in_app=("web_in_app",)))
    incoming = iter(["startup", "shutdown"])

    async def receive():
        kind = next(incoming)
        if kind == "shutdown":
            assert (await call(app, "/emit")).status == 200
        return {"type": f"lifespan.{kind}"}

    sent = []

    async def send(message):
        sent.append(message["type"])

    await app({"type": "lifespan", "state": {}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert handled == [{"n": 1}]


async def test_a_stream_that_nobody_handles_stops_the_startup(on_real_time):
    """The mistake shows when the server starts, not when the first record waits."""
    app = PipelineMiddleware(_nothing, in_app=["web_in_ap"])
    with pytest.raises(ConfigError, match="web_in_ap"):
        await lifespan(app)


@pytest.mark.parametrize("wrong", ["user_events", [1], 7])
def test_in_app_takes_names(wrong):
    """A single text is a mistake, not a list of letters."""
    with pytest.raises(ConfigError, match="in_app takes the names of streams"):
        create_pipeline_middleware(in_app=wrong)


async def _nothing(_scope, receive, _send):
    await receive()
