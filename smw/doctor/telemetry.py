"""Whether spans reach a collector and the metrics port can be had."""

from __future__ import annotations

import asyncio
import errno
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from smw.doctor.network import STEP_S, Connection, Place, ask, hang_up, reach, why_not
from smw.doctor.report import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["collector", "metrics_port"]

_OTLP = "monitor.otlp"
_PORT = "monitor.prometheus_port"
_GRPC_PORT = 4317


async def collector(url: str, holder: str) -> AsyncIterator[Finding]:
    """Check that `url` takes spans, by sending it an export without any.

    Args:
        url: Full URL that spans are posted to.
        holder: The setting or variable that names it.
    """
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    place = Place(_OTLP, parts.hostname or "", parts.port or (443 if tls else 80), holder, "a collector")
    connection: Connection | None = None
    async for finding, opened in reach(place, context=ssl.create_default_context() if tls else None):
        yield finding
        connection = opened
    if connection is None:
        yield Finding(f"{_OTLP}.post", "not checked", "no connection")
        return
    path = parts.path or "/"
    request = (
        f"POST {path} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
        "Content-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    try:
        answer = await ask(connection, request.encode("latin-1"), until=b"\r\n")
    except OSError as error:
        yield place.finding_of("post", error)
    else:
        yield _judged(place, path, answer.partition(b"\r\n")[0].decode("latin-1"))
    finally:
        hang_up(connection)


def _judged(place: Place, path: str, line: str) -> Finding:
    name = f"{_OTLP}.post"
    words = line.split(" ", 2)
    if not line.startswith("HTTP/") or len(words) < 2 or not words[1].isdecimal():
        grpc = " (4317 is the port of OTLP over gRPC)" if place.port == _GRPC_PORT else ""
        fix = f"name an OTLP/HTTP port, usually 4318, in {place.holder}"
        return Finding(name, "fail", f"{place.address}: no HTTP server{grpc}", fix)
    status = int(words[1])
    seen = f"{place.address}{path} answers {status}"
    if status in (401, 403):
        return Finding(name, "warn", seen, "put the credentials into OTEL_EXPORTER_OTLP_HEADERS")
    if status in (404, 405, 501):
        return Finding(name, "fail", f"{seen}: no OTLP receiver", f"correct port and path in {place.holder}")
    if status >= 500:
        return Finding(name, "warn", seen, "look at the log of the collector")
    return Finding(name, "ok", seen)


async def metrics_port(host: str, port: int, holder: str) -> AsyncIterator[Finding]:
    """Check that the metrics listener can have its port, or that a running smw has it.

    Args:
        host: Address it would listen on.
        port: The port.
        holder: The setting or variable that names it.
    """
    try:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), host, port)
    except OSError as error:
        yield await _taken(host, port, holder, error)
        return
    server.close()
    yield Finding(_PORT, "ok", f"{host}:{port} is free")


async def _taken(host: str, port: int, holder: str, error: OSError) -> Finding:
    if error.errno == errno.EACCES:
        return Finding(_PORT, "fail", f"{host}:{port}: ports below 1024 are not for this user", f"raise {holder}")
    if error.errno != errno.EADDRINUSE:
        fix = f"correct {holder} or prometheus_host"
        return Finding(_PORT, "fail", f"{host}:{port}: {why_not(error)}", fix)
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    try:
        async with asyncio.timeout(STEP_S):
            connection = await asyncio.open_connection(local, port)
        try:
            page = await ask(connection, b"GET /metrics HTTP/1.0\r\n\r\n", until=b"\nsmw_", most=2**20)
        finally:
            hang_up(connection)
    except OSError:
        page = b""
    if b"\nsmw_" in page or b" smw_" in page:
        return Finding(_PORT, "ok", f"{host}:{port} shows the metrics of a running smw")
    return Finding(_PORT, "fail", f"{host}:{port} is taken by another program", f"choose another port in {holder}")
