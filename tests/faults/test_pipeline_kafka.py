"""A Kafka that is not there, or hangs: the application starts and serves, and emit waits within its bound."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time

import pytest
from fastapi import FastAPI, Response

import smw
from smw import create_pipeline_middleware, pipeline, stream_process
from smw.errors import BackpressureError
from tests.integration.web.serving import served
from tests.services import asking, kafka
from tests.services.server import free_port
from tests.services.stopwatch import Stopwatch


@pytest.fixture(params=["refused", "hung"])
def broker(request, caplog):
    """An address at which nothing listens, or something that never answers."""
    caplog.set_level(logging.CRITICAL, "kafka")
    if request.param == "refused":
        yield f"127.0.0.1:{free_port()}"
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield f"127.0.0.1:{server.getsockname()[1]}"
    kafka.collected()


@pytest.mark.timed
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_an_application_starts_serves_and_stops_without_its_kafka(broker):
    """Start and stop take no longer for it, pages are served, and an emit is refused within its time."""
    name = f"absent{broker.rpartition(':')[2]}"
    stream_process(name)(lambda event: None)
    smw.configure("testing", service="shop", pipeline={"kafka_brokers": broker, "emit_timeout_s": 0.5})
    app = FastAPI()
    app.add_middleware(create_pipeline_middleware(in_app=(name,)))

    @app.get("/hello")
    def hello():
        return "hello"

    @app.post("/events")
    async def events():
        try:
            await pipeline.emit(name, {"n": 1})
        except BackpressureError as error:
            return Response(str(error), 503)
        return Response(status_code=204)

    starting = Stopwatch()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(served(app))
        assert starting.took_s() < 2
        assert asking.get(f"{url}/hello").json() == "hello"
        waiting = Stopwatch()
        refused = asking.post(f"{url}/events", timeout=10)
        assert (refused.status_code, "accepted nothing within 0.5 s" in refused.text) == (503, True)
        assert waiting.took_s() < 3
        assert asking.get(f"{url}/hello").json() == "hello"
        ending = Stopwatch()
    assert ending.took_s() < 9
    smw.shutdown()


@pytest.mark.timed
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_many_emits_wait_together(broker):
    """A hundred emits at once are refused in the time of one; none hangs, and none stays behind."""
    own = pipeline.Pipeline(kafka_brokers=broker, emit_timeout_s=0.5)
    started = time.monotonic()
    results = await asyncio.gather(*(own.emit("s", number) for number in range(100)), return_exceptions=True)
    assert [type(result) for result in results] == [BackpressureError] * 100
    assert time.monotonic() - started < 4
    assert own._emitting == 0
    await own.aclose()
