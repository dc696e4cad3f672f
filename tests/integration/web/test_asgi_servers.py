"""FastAPI with the whole stack under real ASGI servers, with one worker and with several."""

from __future__ import annotations

import httpx
import pytest

from smw import security
from tests.integration.web.processes import eventually, served
from tests.services import asking

APP = "tests.integration.web.asgi_app:app"
UVICORN = ["uvicorn", "--host", "127.0.0.1", "--port", "{port}", APP]
HYPERCORN = ["hypercorn", "--bind", "127.0.0.1:{port}", APP]
SERVERS = {
    "uvicorn": (UVICORN, 1),
    "uvicorn, two workers": ([*UVICORN, "--workers", "2"], 2),
    "hypercorn": (HYPERCORN, 1),
    "hypercorn, two workers": ([*HYPERCORN, "--workers", "2"], 2),
    "gunicorn, uvicorn's worker": (
        ["gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class", "asgi", "--workers", "2", APP], 2,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=SERVERS.values(), ids=SERVERS.keys())
def server(request, tmp_path_factory):
    """One server for all tests; the last one ends it."""
    command, workers = request.param
    with served(command, tmp_path_factory.mktemp("shop")) as server:
        server.workers = workers
        yield server


def test_a_piece_arrives_while_the_next_one_is_waited_for(server):
    """Nothing is buffered on the way."""
    (server.home / "go").unlink(missing_ok=True)
    with asking.stream("GET", f"{server.url}/stream", timeout=15) as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"first "
        (server.home / "go").touch()
        assert next(parts) == b"second"


def test_a_client_that_leaves_ends_the_stream(server):
    """The application's generator is closed."""
    with asking.stream("GET", f"{server.url}/endless") as answer:
        next(answer.iter_raw())
    eventually((server.home / "left").exists)


def test_uploads_up_to_the_cap(server):
    """With a length and in chunks; above it 413 as problem details, and the next request is served."""
    with httpx.Client(base_url=server.url) as client:
        assert client.post("/upload", content=iter([b"x" * 500, b"y" * 500])).json() == 1000
        for content in (b"x" * 1001, iter([b"x" * 600] * 3)):
            refused = client.post("/upload", content=content)
            assert (refused.status_code, refused.headers["content-type"]) == (413, "application/problem+json")
        assert client.post("/upload", content=b"x").json() == 1


def test_denials_stored_answers_and_head(server):
    """What policies answer is the same on every server."""
    assert asking.get(f"{server.url}/denied").status_code == 403
    answers = [asking.get(f"{server.url}/charts") for _ in range(20)]
    assert all(answer.status_code == 200 for answer in answers)
    assert any("age" in answer.headers for answer in answers)
    assert asking.head(f"{server.url}/health").content == b""


def test_every_worker_serves_records_and_stops_cleanly(server):
    """SIGTERM leaves an audit log that verifies, and no record of a stream behind, in any worker.

    It ends the server, so it comes last.
    """
    sent: dict[int, list[str]] = {}
    for number in range(300):
        pid = asking.post(f"{server.url}/plays/{number}").json()
        sent.setdefault(pid, []).append(str(number))
        assert asking.get(f"{server.url}/read").json() == 1
        if len(sent) == server.workers and number > 20:
            break
    assert len(sent) == server.workers
    server.stop()
    for pid, numbers in sent.items():
        assert (server.home / f"plays-{pid}").read_text().split() == numbers
    assert security.verify(server.home / "trail").status == "ok"
