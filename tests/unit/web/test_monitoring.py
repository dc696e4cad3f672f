"""What the monitoring policy counts, and what it leaves out."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse, StreamingResponse

from smw.testing import isolated
from smw.web import MonitoringMiddleware, create_monitoring_middleware
from tests.unit.web.driving import call, metric


def answering(status=200, body=b"ok"):
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return app


async def test_requests_durations_and_sizes(runtime, clock):
    """One exchange moves all four metrics."""

    async def app(_scope, receive, send):
        await receive()
        clock.advance(0.2)
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body"})
        clock.advance(5)  # a background task: no latency of the client

    await call(MonitoringMiddleware(app), method="POST", headers=[("content-length", "3")], body=[b"abc"])
    assert metric(runtime, "http_requests_total") == {("POST", "unmatched", "201"): 1.0}
    assert metric(runtime, "http_request_duration_seconds_sum") == {("POST", "unmatched", "201"): pytest.approx(0.2)}
    assert metric(runtime, "http_request_size_bytes_sum") == {("POST", "unmatched"): 3.0}
    assert metric(runtime, "active_connections") == {(): 0.0}


async def test_duration_ends_with_the_last_byte_of_a_stream(runtime, clock):
    """A streaming answer lasts until its last chunk."""

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            clock.advance(1)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body"})

    await call(MonitoringMiddleware(app))
    assert metric(runtime, "http_request_duration_seconds_sum") == {("GET", "unmatched", "200"): pytest.approx(3.0)}


async def test_in_flight_while_it_runs(runtime):
    """An exchange is an active connection until its end."""
    seen = []

    async def app(scope, receive, send):
        seen.append(metric(runtime, "active_connections")[()])
        await answering()(scope, receive, send)

    await call(MonitoringMiddleware(app))
    assert seen == [1.0]
    assert metric(runtime, "active_connections")[()] == 0.0


async def test_an_exception_before_the_answer_counts_500_and_goes_on_unchanged(runtime):
    """The same exception object comes out."""
    error = ValueError("mine")

    async def app(_scope, _receive, _send):
        raise error

    with pytest.raises(ValueError, match="mine") as caught:
        await call(MonitoringMiddleware(app))
    assert caught.value is error
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "500"): 1.0}


async def test_an_exception_after_the_head_counts_the_sent_status(runtime):
    """What the client saw is what counts."""

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    with pytest.raises(ValueError):
        await call(MonitoringMiddleware(app))
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): 1.0}


async def test_a_cancelled_request_counts_499(runtime):
    """A server that gives up on a client cancels; that is no server error."""

    async def app(_scope, _receive, _send):
        await asyncio.sleep(60)

    task = asyncio.create_task(call(MonitoringMiddleware(app)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "499"): 1.0}
    assert metric(runtime, "active_connections")[()] == 0.0


async def test_a_client_that_leaves_a_stream_counts_499(runtime):
    """The application hears of it and stops; the head had been sent."""
    app = FastAPI()

    @app.get("/endless")
    async def _endless():
        async def chunks():
            while True:
                yield b"x"
                await asyncio.sleep(0)

        return StreamingResponse(chunks())

    app.add_middleware(MonitoringMiddleware)
    await call(app, "/endless", leaves_after=3)
    assert metric(runtime, "http_requests_total") == {("GET", "/endless", "499"): 1.0}


async def test_leaving_after_the_last_byte_is_no_499(runtime):
    """A complete answer counts as what it was."""

    async def app(_scope, receive, send):
        await receive()
        await answering(204)(_scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    await call(MonitoringMiddleware(app))
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "204"): 1.0}


async def test_an_application_that_says_nothing_counts_500(runtime):
    """That is what the server answers for it."""

    async def app(_scope, _receive, _send):
        return None

    await call(MonitoringMiddleware(app))
    assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "500"): 1.0}


@pytest.mark.parametrize("length", ["-1", "abc", "", "9" * 400, "1.5", "\u00b3"])
async def test_a_broken_content_length_is_no_size(runtime, length):
    """Then the bytes that came are counted, and nothing fails."""

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await answering()(scope, receive, send)

    adapter = MonitoringMiddleware(app)
    await call(adapter, method="POST", body=[b"ab", b"cd"], headers=[("content-length", length)])
    assert metric(runtime, "http_request_size_bytes_sum") == {("POST", "unmatched"): 4.0}


async def test_websockets_are_active_connections_and_no_requests(runtime):
    """They are counted while they are open."""
    seen = []

    async def app(_scope, _receive, _send):
        seen.append(metric(runtime, "active_connections")[()])

    await MonitoringMiddleware(app)({"type": "websocket", "path": "/"}, None, None)
    assert seen == [1.0]
    assert metric(runtime, "active_connections")[()] == 0.0
    assert metric(runtime, "http_requests_total") == {}


async def test_two_adapters_count_once(runtime):
    """A mounted application with a stack of its own is not counted again."""
    sub = FastAPI()

    @sub.get("/x")
    def _x():
        return 1

    sub.add_middleware(MonitoringMiddleware)
    app = FastAPI()
    app.mount("/sub", sub)
    app.add_middleware(MonitoringMiddleware)
    assert (await call(app, "/sub/x")).status == 200
    assert metric(runtime, "http_requests_total") == {("GET", "/sub/x", "200"): 1.0}


async def test_scrapes_and_probes_are_not_counted(runtime):
    """What smw serves itself would only drown what users ask for."""
    app = MonitoringMiddleware(answering())
    for target in ("/metrics", "/health", "/health/live", "/health/ready"):
        assert (await call(app, target)).status == 200
    assert metric(runtime, "http_requests_total") == {}


async def test_it_follows_the_current_runtime():
    """A new runtime gets the figures from the next request on."""
    app = MonitoringMiddleware(answering())
    for times in (1, 2):
        with isolated() as runtime:
            for _ in range(times):
                await call(app)
            assert metric(runtime, "http_requests_total") == {("GET", "unmatched", "200"): float(times)}


async def test_paths_are_settings(runtime):
    """Endpoints move, and None gives the path back to the application."""
    app = create_monitoring_middleware(metrics_path="/internal/metrics", health_path=None)(answering(body=b"mine"))
    assert (await call(app, "/metrics")).body == b"mine"
    assert (await call(app, "/health")).body == b"mine"
    assert b"http_requests_total" in (await call(app, "/internal/metrics")).body


async def test_starlette_background_tasks_run(runtime):
    """Work after the answer is the application's, and is done."""
    from starlette.background import BackgroundTask

    done = []
    response = PlainTextResponse("x", background=BackgroundTask(done.append, 1))
    await call(MonitoringMiddleware(response))
    assert done == [1]
