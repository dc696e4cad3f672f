"""The whole stack under a real server: nothing about streams, disconnects or the life cycle changes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from starlette.responses import FileResponse, StreamingResponse

from smw.errors import Denied
from smw.testing import isolated
from smw.web import create_security_middleware
from smw.web.fastapi import install
from tests.integration.web.serving import served
from tests.services import asking


@pytest.fixture
def runtime():
    """The current runtime of the test."""
    with isolated() as runtime:
        yield runtime


def eventually(check, within_s=30.0):
    """Wait until `check()` is true."""
    until = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < until
        time.sleep(0.01)


def requests_total(url):
    text = asking.get(f"{url}/metrics").text
    return [line for line in text.splitlines() if line.startswith("http_requests_total{")]


def test_chunks_arrive_while_the_next_one_is_waited_for(runtime):
    """A client reads the first chunk although the second is not made yet: nothing is buffered."""
    app = FastAPI()
    go_on = threading.Event()

    @app.get("/stream")
    async def _stream():
        async def chunks():
            yield b"first"
            await asyncio.to_thread(go_on.wait, 10)
            yield b"second"

        return StreamingResponse(chunks())

    install(app)
    with served(app) as url, asking.stream("GET", f"{url}/stream") as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"first"
        go_on.set()
        assert next(parts) == b"second"


def test_server_sent_events_flow_and_a_leaving_client_ends_them(runtime):
    """Events arrive one by one; when the client goes the generator is closed and 499 is counted."""
    app = FastAPI()
    closed = threading.Event()

    @app.get("/events")
    async def _events():
        async def events():
            try:
                number = 0
                while True:
                    yield f"data: {number}\n\n"
                    number += 1
                    await asyncio.sleep(0.01)
            finally:
                closed.set()

        return StreamingResponse(events(), media_type="text/event-stream")

    install(app)
    with served(app) as url:
        with asking.stream("GET", f"{url}/events") as answer:
            lines = answer.iter_lines()
            assert [next(lines) for _ in range(3)] == ["data: 0", "", "data: 1"]
        assert closed.wait(30)
        eventually(lambda: requests_total(url))
        assert requests_total(url) == ['http_requests_total{method="GET",route="/events",status="499"} 1.0']


def test_uploads_reach_the_application_chunk_by_chunk(runtime):
    """The application reads the first chunk before the client has sent the second."""
    app = FastAPI()
    seen = threading.Event()

    @app.post("/upload")
    async def _upload(request: Request):
        total = 0
        async for chunk in request.stream():
            total += len(chunk)
            seen.set()
        return total

    def chunks():
        yield b"a" * 1000
        assert seen.wait(10)
        yield b"b" * 1000

    install(app)
    with served(app) as url:
        assert asking.post(f"{url}/upload", content=chunks()).json() == 2000


def test_a_chunked_upload_above_the_cap_is_413(runtime):
    """A body without length is stopped on its way, and the connection's next request is served."""
    app = FastAPI()

    @app.post("/upload")
    async def _upload(request: Request):
        return len(await request.body())

    app.add_middleware(create_security_middleware(max_body_bytes=1000))
    with served(app) as url, httpx.Client() as client:
        refused = client.post(f"{url}/upload", content=iter([b"x" * 600] * 3))
        assert refused.status_code == 413
        assert refused.headers["content-type"] == "application/problem+json"
        declared = client.post(f"{url}/upload", content=b"x" * 1001)
        assert declared.status_code == 413
        assert client.post(f"{url}/upload", content=b"x" * 1000).json() == 1000


def test_files_head_and_conditional_requests(runtime, tmp_path):
    """Files are sent by the framework's own means; HEAD and ranges work."""
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 1000)
    app = FastAPI()

    @app.api_route("/file", methods=["GET", "HEAD"])
    async def _file():
        return FileResponse(tmp_path / "a.bin", headers={"cache-control": "public, max-age=60"})

    install(app)
    with served(app) as url:
        first = asking.get(f"{url}/file")
        assert len(first.content) == 256_000
        again = asking.get(f"{url}/file")
        assert again.content == first.content
        assert "age" in again.headers
        part = asking.get(f"{url}/file", headers={"range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, b"\x01\x02\x03")
        head = asking.head(f"{url}/file")
        assert (head.headers["content-length"], head.content) == ("256000", b"")
        same = asking.get(f"{url}/file", headers={"if-none-match": first.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")


def test_background_work_does_not_hold_the_answer_and_still_runs(runtime):
    """The client has its answer while the task waits."""
    app = FastAPI()
    go_on, done = threading.Event(), threading.Event()

    def work():
        assert go_on.wait(10)
        done.set()

    @app.get("/later")
    async def _later(tasks: BackgroundTasks):
        tasks.add_task(work)
        return "now"

    install(app)
    with served(app) as url:
        assert asking.get(f"{url}/later").json() == "now"
        assert not done.is_set()
        go_on.set()
        assert done.wait(30)


def test_denials_and_errors_as_clients_see_them(runtime):
    """A denial is 403 as problem details, an error is the framework's 500, and both are counted."""
    app = FastAPI()

    @app.get("/denied")
    def _denied():
        raise Denied(control="hipaa.access", clause="164.312(a)(1)", missing="a role")

    @app.get("/broken")
    def _broken():
        raise ValueError

    install(app)
    with served(app) as url:
        denied, broken = asking.get(f"{url}/denied"), asking.get(f"{url}/broken")
        assert (denied.status_code, denied.headers["content-type"]) == (403, "application/problem+json")
        assert (broken.status_code, broken.text) == (500, "Internal Server Error")
        assert set(requests_total(url)) == {
            'http_requests_total{method="GET",route="/denied",status="403"} 1.0',
            'http_requests_total{method="GET",route="/broken",status="500"} 1.0',
        }


def test_many_clients_at_once(runtime):
    """Nobody gets somebody else's answer, and every request is counted once."""
    app = FastAPI()

    @app.get("/echo/{number}")
    async def _echo(number: int):
        await asyncio.sleep(0.001)
        return number

    install(app)
    with served(app) as url:

        async def load():
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                answers = await asyncio.gather(*(client.get(f"/echo/{number}") for number in range(300)))
            return [answer.json() for answer in answers]

        assert asyncio.run(load()) == list(range(300))
        assert requests_total(url) == ['http_requests_total{method="GET",route="/echo/{number}",status="200"} 300.0']


@pytest.mark.parametrize("lifespan", ["auto", "off"])
def test_a_raw_application_without_lifespan_is_served(runtime, lifespan):
    """With or without lifespan messages the adapter finds its runtime."""
    from smw.web import MonitoringMiddleware

    async def raw(scope, _receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"raw"})

    with served(MonitoringMiddleware(raw), lifespan=lifespan) as url:
        assert asking.get(url).content == b"raw"
        assert requests_total(url) == ['http_requests_total{method="GET",route="unmatched",status="200"} 1.0']


def test_the_applications_own_lifespan_runs_in_order(runtime):
    """Startup before the first request, shutdown after the last."""
    order = []

    @asynccontextmanager
    async def life(_app):
        order.append("up")
        yield
        order.append("down")

    app = FastAPI(lifespan=life)

    @app.get("/")
    async def _root():
        order.append("request")

    install(app)
    with served(app) as url:
        asking.get(url)
    assert order == ["up", "request", "down"]


PROGRAM = """
import smw, uvicorn, sys
from fastapi import FastAPI
from smw import security
from smw.web.fastapi import install

smw.configure("development", security={"trail_dir": sys.argv[1]})
app = FastAPI()

@app.get("/read")
@security.audit_log("user_data_access")
async def read():
    return 1

install(app)
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""


def test_sigterm_flushes_what_was_recorded(tmp_path, unused_port):
    """A server that is told to stop leaves an audit log that verifies and holds every call."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    trail = tmp_path / "trail"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    server = subprocess.Popen([sys.executable, program, trail, str(unused_port)], env=environment)
    try:
        url = f"http://127.0.0.1:{unused_port}"

        def is_up():
            assert server.poll() is None
            try:
                return asking.get(f"{url}/health/live").status_code == 200
            except httpx.TransportError:
                return False

        eventually(is_up, within_s=60)
        for _ in range(5):
            assert asking.get(f"{url}/read").json() == 1
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
    from smw import security

    assert security.verify(trail).status == "ok"
    lines = b"".join(path.read_bytes() for path in trail.rglob("*") if path.is_file())
    assert lines.count(b"user_data_access") >= 5
