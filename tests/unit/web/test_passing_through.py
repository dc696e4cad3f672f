"""With the whole stack in between, an application and its server see exactly what they saw before."""

from __future__ import annotations

import asyncio
import contextvars

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, WebSocket, WebSocketDisconnect
from starlette.responses import StreamingResponse

from smw.web import CacheMiddleware, MonitoringMiddleware, PipelineMiddleware, SecurityMiddleware
from smw.web.fastapi import install
from tests.unit.web.driving import call, scope_of

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def stack(app):
    """Put all four around a raw application."""
    return MonitoringMiddleware(SecurityMiddleware(PipelineMiddleware(CacheMiddleware(app))))


@pytest.fixture
def app(runtime):
    app = FastAPI()
    install(app)
    return app


async def test_every_message_is_handed_on_as_the_same_object(runtime):
    """Unknown message types, trailers and extensions included, in both directions."""
    incoming = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.custom"}]
    outgoing = [
        {"type": "http.response.debug", "info": {}},
        {"type": "http.response.start", "status": 200, "headers": [(b"x", b"\xff")], "trailers": True},
        {"type": "http.response.body", "body": b"1", "more_body": True},
        {"type": "http.response.push", "path": "/x", "headers": []},
        {"type": "http.response.body", "body": memoryview(b"2")},
        {"type": "http.response.trailers", "headers": [(b"sum", b"1")]},
    ]
    got, sent = [], []

    async def app(scope, receive, send):
        assert scope["extensions"] == {"http.response.trailers": {}}
        got.extend([await receive(), await receive()])
        for message in outgoing:
            await send(message)

    queue = iter(incoming)

    async def receive():
        return next(queue)

    async def send(message):
        sent.append(message)

    await stack(app)(scope_of("GET", "/", extensions={"http.response.trailers": {}}), receive, send)
    assert [id(message) for message in got] == [id(message) for message in incoming]
    assert [id(message) for message in sent] == [id(message) for message in outgoing]


async def test_headers_given_as_an_iterator_are_not_used_up(runtime):
    """ASGI allows any iterable; the server is the one to walk it."""

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": iter([(b"cache-control", b"max-age=9")])})
        await send({"type": "http.response.body"})

    assert (await call(stack(app))).headers == {"cache-control": "max-age=9"}


async def test_the_body_is_not_touched_before_the_application_asks(runtime):
    """No middleware reads ahead."""

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    assert (await call(stack(app), method="POST", body=[b"x"])).received == 0


async def test_chunks_of_a_stream_arrive_one_by_one(app):
    """A chunk is out before the next one is made."""
    sent = []
    made = []

    @app.get("/stream")
    async def _stream():
        async def chunks():
            for number in range(3):
                made.append(len(sent))
                yield b"%d" % number

        return StreamingResponse(chunks())

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await app(scope_of("GET", "/stream"), receive, send)
    assert made == [1, 2, 3]


async def test_request_bodies_stream_as_well(runtime):
    """The application gets each chunk when it comes."""
    seen = []

    async def app(_scope, receive, send):
        while True:
            message = await receive()
            seen.append(message["body"])
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    await call(stack(app), method="POST", body=[b"a", b"b", b"c"])
    assert seen == [b"a", b"b", b"c"]


async def test_context_variables_set_outside_are_seen_inside_and_back(app):
    """One task, one context: what a middleware sets reaches the endpoint, and what that sets comes back out."""
    seen = []

    class Outer:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            tenant.set("outer")
            await self.app(scope, receive, send)
            seen.append(tenant.get())

    @app.get("/who")
    async def _who():
        before = tenant.get()
        tenant.set("endpoint")
        return before

    app.add_middleware(Outer)
    assert (await call(app, "/who")).body == b'"outer"'
    assert seen == ["endpoint"]


async def test_background_tasks_run_after_the_answer(app):
    """The client has its answer before the task begins."""
    order = []

    @app.get("/later")
    async def _later(tasks: BackgroundTasks):
        tasks.add_task(order.append, "task")
        return 1

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        order.append(message["type"])

    await app(scope_of("GET", "/later"), receive, send)
    assert order == ["http.response.start", "http.response.body", "task"]


async def test_exceptions_come_out_unchanged_and_the_framework_answers(app):
    """The client gets the framework's 500, the server the same exception object."""
    error = RuntimeError("mine")

    @app.get("/broken")
    async def _broken():
        raise error

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        answer = await client.get("/broken")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    with pytest.raises(RuntimeError) as caught:
        await call(app, "/broken")
    assert caught.value is error


async def test_a_disconnect_reaches_the_application(app):
    """Who waits for the client to leave is told."""
    heard = []

    async def raw(scope, receive, send):
        await receive()
        heard.append((await receive())["type"])

    app.mount("/raw", raw)
    gone = iter([{"type": "http.request", "body": b""}, {"type": "http.disconnect"}])

    async def receive():
        return next(gone)

    async def send(_message):
        raise AssertionError

    await app(scope_of("GET", "/raw/x"), receive, send)
    assert heard == ["http.disconnect"]


async def test_head_and_options_are_the_applications(app):
    """Methods are handed on, not answered."""

    @app.head("/thing")
    async def _head():
        return None

    assert (await call(app, "/thing", method="HEAD")).status == 200
    assert (await call(app, "/thing", method="OPTIONS")).status == 405


async def test_websockets_work(app):
    """Handshake, messages, close codes and subprotocols pass in both directions."""
    closed = []

    @app.websocket("/ws")
    async def _ws(socket: WebSocket):
        await socket.accept(subprotocol="chat")
        try:
            while True:
                await socket.send_text((await socket.receive_text()).upper())
        except WebSocketDisconnect as left:
            closed.append(left.code)

    incoming = iter([
        {"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"},
        {"type": "websocket.disconnect", "code": 4001},
    ])  # fmt: skip
    sent = []

    async def receive():
        return next(incoming)

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "subprotocols": ["chat"]}
    await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send"]
    assert (sent[0]["subprotocol"], sent[1]["text"], closed) == ("chat", "HI", [4001])


async def test_unknown_scopes_pass(runtime):
    """A protocol of tomorrow is not ours to refuse."""
    seen = []

    async def app(scope, _receive, _send):
        seen.append(scope)

    scope = {"type": "webtransport"}
    await stack(app)(scope, None, None)
    assert seen == [scope]
    assert seen[0] is scope


async def test_cancellation_passes_and_leaves_nothing_behind(runtime):
    """The application is cancelled where it stands."""
    caught = []

    async def app(_scope, _receive, _send):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            caught.append(True)
            raise

    task = asyncio.create_task(call(stack(app)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert caught == [True]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_scope_without_header_fields_passes(runtime, method):
    """Those who drive applications by hand leave out what is empty; frameworks bear it, and so does smw."""
    sent = []

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def send(message):
        sent.append(message["type"])

    await stack(app)({"type": "http", "method": method, "path": "/"}, None, send)
    assert sent == ["http.response.start", "http.response.body"]
