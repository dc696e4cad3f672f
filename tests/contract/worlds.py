"""The same application and the same request in two worlds, ASGI and WSGI, so that one suite speaks of both."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from wsgiref.validate import validator


@dataclass(frozen=True)
class Read:
    """Read up to so many bytes of the request, all that is left with None; the step gives what was read."""

    size: int | None = None


@dataclass(frozen=True)
class Start:
    """Send the head."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Piece:
    """Send a piece of the body."""

    data: bytes


Step = Read | Start | Piece
Script = Callable[[], Iterator[Step]]
"""What an application does, step by step; an exception in between is the application's."""


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    lines: list[tuple[str, str]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    read_bytes: int = 0
    """How much of the request body was taken from the server."""
    starts: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.lines}

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def saying(body: bytes = b"ok", status: int = 200, *headers: tuple[str, str], reads: bool = False) -> Script:
    """Return the script of an application that says one thing."""

    def script() -> Iterator[Step]:
        if reads:
            yield Read()
        yield Start(status, headers)
        yield Piece(body)

    return script


class Asgi:
    """Applications and requests over ASGI."""

    name = "asgi"

    def application(self, script: Script) -> Any:
        async def app(_scope: Any, receive: Any, send: Any) -> None:
            steps, got = script(), None
            while True:
                try:
                    step = steps.send(got)
                except StopIteration:
                    break
                got = None
                if isinstance(step, Read):
                    got = await _read(receive, step.size)
                elif isinstance(step, Start):
                    lines = [(name.encode(), value.encode()) for name, value in step.headers]
                    await send({"type": "http.response.start", "status": step.status, "headers": lines})
                else:
                    await send({"type": "http.response.body", "body": step.data, "more_body": True})
            await send({"type": "http.response.body"})

        return app

    async def ask(
        self,
        app: Any,
        target: str = "/",
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: Iterable[bytes] = (),
        peer: str | None = "203.0.113.9",
        scheme: str = "http",
        leaves_after: int | None = None,
    ) -> Answer:
        """Send one request; `body` without a length in `headers` comes in chunks."""
        answer, chunks, gone = Answer(), list(body), asyncio.Event()
        path, _, query = target.partition("?")
        lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in _with_host(headers)]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "scheme": scheme,
            "headers": lines, "client": None if peer is None else (peer, 50000), "server": ("shop.test", 80),
        }  # fmt: skip

        async def receive() -> Any:
            if chunks:
                chunk = chunks.pop(0)
                answer.read_bytes += len(chunk)
                return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.starts = message["status"], answer.starts + 1
                answer.lines = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
            elif message.get("body"):
                answer.pieces.append(bytes(message["body"]))
                if len(answer.pieces) == leaves_after:
                    task.cancel()
                    await asyncio.sleep(0)

        if not chunks:
            chunks.append(b"")
        task = asyncio.ensure_future(app(scope, receive, send))
        try:
            await task
        except asyncio.CancelledError:
            assert leaves_after is not None
        return answer


async def _read(receive: Any, size: int | None) -> bytes:
    data = b""
    while size is None or len(data) < size:
        message = await receive()
        data += message.get("body", b"")
        if not message.get("more_body"):
            break
    return data


class _Stream(io.RawIOBase):
    """A request body that comes chunk by chunk and notes how much was taken."""

    def __init__(self, chunks: Iterable[bytes], answer: Answer) -> None:
        self._rest = b"".join(chunks)
        self._answer = answer

    def read(self, size: int = -1) -> bytes:
        size = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:size], self._rest[size:]
        self._answer.read_bytes += len(data)
        return data


class Wsgi:
    """Applications and requests over WSGI; the checks of the standard library stand on both sides of the adapter."""

    name = "wsgi"

    def application(self, script: Script) -> Any:
        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            return _play(script(), environ["wsgi.input"], start_response)

        return validator(app)

    async def ask(
        self,
        app: Any,
        target: str = "/",
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: Iterable[bytes] = (),
        peer: str | None = "203.0.113.9",
        scheme: str = "http",
        leaves_after: int | None = None,
    ) -> Answer:
        """Send one request; `body` without a length in `headers` comes in chunks."""
        answer = Answer()
        environ = environ_of(method, target, headers, scheme=scheme, peer=peer, stream=_Stream(body, answer))
        if body and "CONTENT_LENGTH" not in environ:
            environ["HTTP_TRANSFER_ENCODING"] = "chunked"

        def start_response(status: str, lines: list[tuple[str, str]], exc_info: Any = None) -> Any:
            answer.status, answer.lines, answer.starts = int(status[:3]), lines, answer.starts + 1
            return answer.pieces.append

        result = validator(app)(environ, start_response)
        try:
            for piece in result:
                if piece:
                    assert answer.status
                    answer.pieces.append(piece)
                if len(answer.pieces) == leaves_after:
                    break
        finally:
            result.close()
        return answer


def _play(steps: Iterator[Step], stream: Any, start_response: Any) -> Iterator[bytes]:
    """Run a script as WSGI applications are written: up to the head in the call, the body as a generator."""
    got: Any = None
    while (step := _next(steps, got)) is not None:
        got = None
        if isinstance(step, Piece):
            return _rest(steps, step)
        if isinstance(step, Read):
            got = stream.read(1_000_000 if step.size is None else step.size)
        else:
            start_response(f"{step.status} Status", _typed(step))
    return iter(())


def _typed(step: Start) -> list[tuple[str, str]]:
    """Return the header fields with a type where the checks want one."""
    names = {name.lower() for name, _ in step.headers}
    typed = step.status in (204, 304) or "content-type" in names
    return [*step.headers] if typed else [("Content-Type", "text/plain"), *step.headers]


def _next(steps: Iterator[Step], got: Any) -> Step | None:
    try:
        return steps.send(got)  # type: ignore[attr-defined]
    except StopIteration:
        return None


def _rest(steps: Iterator[Step], first: Piece) -> Iterator[bytes]:
    yield first.data
    for step in steps:
        assert isinstance(step, Piece)
        yield step.data


def _with_host(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    given = list(headers)
    return given if any(name.lower() == "host" for name, _ in given) else [("host", "shop.test"), *given]


def environ_of(
    method: str, target: str, headers: Iterable[tuple[str, str]] = (), *, scheme: str = "http",
    peer: str | None = "203.0.113.9", stream: Any = None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Return the environ of a request as a server makes it: fields of one name joined by commas."""
    path, _, query = target.partition("?")
    environ = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
        "SERVER_NAME": "shop.test", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0), "wsgi.url_scheme": scheme, "wsgi.errors": sys.stderr, "wsgi.multithread": True,
        "wsgi.multiprocess": False, "wsgi.run_once": False,
        "wsgi.input": io.BytesIO() if stream is None else stream, **more,
    }  # fmt: skip
    if peer is not None:
        environ["REMOTE_ADDR"] = peer
    for name, value in _with_host(headers):
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{key}"
        environ[key] = f"{environ[key]}, {value}" if key in environ else value
    return environ


def metric(runtime: Any, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a metric: label values → number, those of one sample name only."""
    from prometheus_client.parser import text_string_to_metric_families

    text = runtime.monitor.exposition("")[1].decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == name}
