"""Flask with the whole stack under real WSGI servers: nothing about streams, bodies, files or the life changes."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import httpx
import pytest

from smw import security
from tests.integration.web.processes import eventually, served
from tests.services import asking

APP = "tests.integration.web.flask_app"
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:{port}", "--graceful-timeout", "10", f"{APP}:app"]
ONE = {
    "gunicorn sync": GUNICORN,
    "gunicorn gthread": [*GUNICORN, "--worker-class", "gthread", "--threads", "4"],
    "gunicorn preloaded": [*GUNICORN, "--preload"],
    "waitress": [APP, "127.0.0.1:{port}"],
}


@pytest.fixture(scope="module", params=ONE.values(), ids=ONE.keys())
def server(request, tmp_path_factory):
    """One server with one process for the tests that share it; the last of them ends it."""
    home = tmp_path_factory.mktemp("shop")
    (home / "a.bin").write_bytes(bytes(range(256)) * 1000)
    with served(request.param, home) as server:
        yield server


def counts(server):
    """Return how often each route has been answered with each status."""
    text = asking.get(f"{server.url}/metrics").text
    found = re.findall(
        r'^http_requests_total\{method="(\w+)",route="([^"]+)",status="(\d+)"\} (\S+)', text, re.MULTILINE
    )
    return {(method, route, status): float(times) for method, route, status, times in found}


def raw(server, text):
    """Send bytes as they are and return the connection."""
    connection = socket.create_connection(("127.0.0.1", server.port), 10)
    connection.sendall(text)
    return connection


def test_views_are_cached_counted_and_answered(server):
    """One page of each kind, and the figures by route."""
    before = counts(server)
    first, again = (asking.get(f"{server.url}/users/ada").json() for _ in range(2))
    assert first == again
    assert asking.get(f"{server.url}/nope").status_code == 404
    # The last one may still be at its end, in a thread of its own, when its answer is here.
    eventually(lambda: "active_connections 0.0" in asking.get(f"{server.url}/metrics").text)
    after = counts(server)
    assert after[("GET", "/users/<user>", "200")] - before.get(("GET", "/users/<user>", "200"), 0) == 2
    assert after[("GET", "unmatched", "404")] - before.get(("GET", "unmatched", "404"), 0) == 1


def test_a_piece_arrives_while_the_next_one_is_waited_for(server):
    """Nothing is buffered on the way."""
    (server.home / "go").unlink(missing_ok=True)
    with asking.stream("GET", f"{server.url}/stream", timeout=15) as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"first "
        (server.home / "go").touch()
        assert next(parts) == b"second"


def test_a_client_that_leaves_ends_the_stream_and_counts_499(server):
    """The application's generator is closed."""
    with asking.stream("GET", f"{server.url}/endless") as answer:
        next(answer.iter_raw())
    eventually((server.home / "left").exists)
    eventually(lambda: counts(server).get(("GET", "/endless", "499")) == 1)


def test_files_ranges_and_head(server):
    """Files are sent by the server's own means or read, whole and in part."""
    whole = asking.get(f"{server.url}/file")
    assert whole.content == bytes(range(256)) * 1000
    assert asking.get(f"{server.url}/file", headers={"range": "bytes=1-3"}).content == b"\x01\x02\x03"
    head = asking.head(f"{server.url}/file")
    assert (head.headers["content-length"], head.content) == ("256000", b"")
    same = asking.get(f"{server.url}/file", headers={"if-none-match": whole.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


def test_stored_answers(server):
    """The response cache answers GET, HEAD and validators."""
    first = asking.get(f"{server.url}/charts")
    eventually(lambda: "age" in asking.get(f"{server.url}/charts").headers)
    assert asking.get(f"{server.url}/charts").json() == first.json()
    head = asking.head(f"{server.url}/charts")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(first.content)))
    assert asking.get(f"{server.url}/charts", headers={"if-none-match": '"week-12"'}).status_code == 304


def test_uploads_up_to_the_cap(server):
    """With a length and in chunks; above it 413 as problem details, and the next request is served."""
    with httpx.Client(base_url=server.url) as client:
        assert client.post("/upload", content=b"x" * 1000).text == "1000"
        assert client.post("/upload", content=iter([b"x" * 500, b"y" * 500])).text == "1000"
        for content in (b"x" * 1001, iter([b"x" * 600] * 3)):
            refused = client.post("/upload", content=content)
            assert (refused.status_code, refused.headers["content-type"]) == (413, "application/problem+json")
        assert client.post("/upload", content=b"x").text == "1"


def test_a_client_that_asks_before_it_sends(server):
    """`Expect: 100-continue` stays between server and client: the body is sent once it is wanted."""
    head = (
        b"POST /upload HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    )
    with raw(server, head) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"hello")
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n5")


def test_denials_and_errors(server):
    """A denial is 403 as problem details, an error is Flask's 500, and both are counted under their routes."""
    denied, broken = (asking.get(f"{server.url}/{path}") for path in ("denied", "broken"))
    assert (denied.status_code, denied.headers["content-type"]) == (403, "application/problem+json")
    assert broken.status_code == 500
    eventually(lambda: {("GET", "/denied", "403"), ("GET", "/broken", "500")} <= counts(server).keys())


def test_repeated_header_lines(server):
    """A server joins them; nothing is lost on the way."""
    many = [("x-many", "1"), ("x-many", "2")]
    answer = asking.get(f"{server.url}/client", headers=many).json()
    assert answer["many"].replace(" ", "") == "1,2"


def test_streams_are_handled_in_the_process(server):
    """What a view emits is handled beside the threads that answer."""
    for number in range(5):
        assert asking.post(f"{server.url}/plays/{number}").status_code == 202
    pid = asking.get(f"{server.url}/pid").text
    eventually((server.home / f"plays-{pid}").exists)
    eventually(lambda: (server.home / f"plays-{pid}").read_text().split() == ["0", "1", "2", "3", "4"])


def test_sigterm_flushes_what_was_recorded(server):
    """A server that is told to stop leaves an audit log that verifies, and no record of a stream behind.

    It ends the server, so it comes last of those that share one.
    """
    said = len(server.log)
    for number in range(100, 120):
        asking.post(f"{server.url}/plays/{number}")
    for _ in range(5):
        assert asking.get(f"{server.url}/read").text == "1"
    pid = asking.get(f"{server.url}/pid").text
    server.stop()
    assert "Traceback" not in server.log[said:]
    assert security.verify(server.home / "trail").status == "ok"
    lines = b"".join(path.read_bytes() for path in (server.home / "trail").rglob("*") if path.is_file())
    assert lines.count(b"user_data_access") >= 5
    assert (server.home / f"plays-{pid}").read_text().split()[-20:] == [str(number) for number in range(100, 120)]


@pytest.mark.parametrize("more", [[], ["--preload"]], ids=["loaded by each", "preloaded"])
def test_several_workers_each_have_a_runtime_of_their_own(more, tmp_path):
    """The application is forked before it has opened anything; every worker answers, counts and records."""
    with served([*GUNICORN, "--workers", "3", *more], tmp_path) as server:
        pids: set[str] = set()
        for _ in range(400):
            pids.add(asking.get(f"{server.url}/pid").text)
            assert asking.get(f"{server.url}/read").text == "1"
            if len(pids) == 3:
                break
        assert len(pids) == 3
        assert int(server.process.pid) not in map(int, pids)
        assert server.stop() == 0
        assert "Traceback" not in server.log
    assert security.verify(tmp_path / "trail").status == "ok"


def test_a_unix_socket_has_no_address(tmp_path):
    """Then every client is the same, local one."""
    path = Path(tmp_path / "s")
    command = ["gunicorn", "--bind", f"unix:{path}", "--bind", "127.0.0.1:{port}", f"{APP}:app"]
    with served(command, tmp_path), httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://shop/health").status_code == 200
        assert client.get("http://shop/users/ada").json()["user"] == "ada"
