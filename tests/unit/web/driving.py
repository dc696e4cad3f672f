"""Drives ASGI applications message by message, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """What an application said to one request."""

    messages: list[Any] = field(default_factory=list)
    received: int = 0

    @property
    def status(self) -> int:
        return next((m["status"] for m in self.messages if m["type"] == "http.response.start"), 0)

    @property
    def headers(self) -> dict[str, str]:
        start = next(m for m in self.messages if m["type"] == "http.response.start")
        return {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in start.get("headers", ())}

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages if m["type"] == "http.response.body")

    @property
    def starts(self) -> int:
        return sum(m["type"] == "http.response.start" for m in self.messages)


def scope_of(method: str, target: str, headers: Iterable[tuple[str, str]] = (), **more: Any) -> dict[str, Any]:
    """Return the scope of a request."""
    path, _, query = target.partition("?")
    lines = [(b"host", b"shop.test")] if not any(n.lower() == "host" for n, _ in headers) else []
    lines += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "scheme": "http",
        "headers": lines, "client": ("203.0.113.9", 50000), "server": ("shop.test", 80), "state": {}, "extensions": {},
        **more,
    }  # fmt: skip


async def call(
    app: Any,
    target: str = "/",
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: Iterable[bytes] = (),
    leaves_after: int | None = None,
    **more: Any,
) -> Answer:
    """Send one request and return the answer; exceptions come through.

    As a server does, it reports a disconnect once the answer is complete, or after `leaves_after` messages.
    """
    answer = Answer()
    chunks = list(body)
    gone = asyncio.Event()
    scope = scope_of(method, target, tuple(headers), **more)

    async def receive() -> Any:
        answer.received += 1
        if chunks:
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
        if answer.received == 1:
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        answer.messages.append(message)
        complete = message["type"] == "http.response.body" and not message.get("more_body")
        if complete or len(answer.messages) == leaves_after:
            gone.set()

    await app(scope, receive, send)
    return answer


async def lifespan(app: Any, **more: Any) -> list[str]:
    """Run the lifespan protocol from startup to shutdown and return the types of what was sent."""
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}, **more}
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> Any:
        await asyncio.sleep(0)
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app(scope, receive, send)
    return sent


def metric(runtime: Any, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a metric: label values → number, those of one sample name only."""
    from prometheus_client.parser import text_string_to_metric_families

    text = runtime.monitor.exposition("")[1].decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(sample.labels.values())] = sample.value
    return found
