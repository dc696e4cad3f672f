"""Counts, times and traces every exchange, answers scrapes and probes; knows no export format."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from smw.web.endpoints import Endpoints
from smw.web.exchange import Exchange, Policy, Proceed, Reply
from smw.web.source import PolicySource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from smw.monitor.monitor import Monitor
    from smw.monitor.spans import ServerSpan
    from smw.runtime import Runtime

__all__ = ["Monitoring", "MonitoringSource"]

_CLIENT_LEFT = 499
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "DELETE"})


class MonitoringSource(PolicySource):
    """Makes the monitoring of exchanges."""

    name: ClassVar[str] = "monitoring"
    rank: ClassVar[int] = 10
    once: ClassVar[bool] = True
    takes: ClassVar[Mapping[str, str]] = {"metrics_path": "web", "health_path": "web"}

    def bind(self, runtime: Runtime) -> Policy:
        """Return the policy."""
        from smw.settings import WebSettings

        web = self.effective(runtime.settings, WebSettings)
        details = runtime.settings.profile != "production"
        endpoints = Endpoints(
            runtime.monitor, metrics_path=web.metrics_path, health_path=web.health_path, details=details
        )
        return Monitoring(runtime.monitor, endpoints, now=runtime.host.clock.now)


class Monitoring(Policy):
    """Metrics and the server span of every exchange, and the endpoints that show them.

    Args:
        monitor: Takes metrics and spans.
        endpoints: Answers scrapes and probes; those are neither counted nor traced.
        now: Monotonic clock.
    """

    def __init__(self, monitor: Monitor, endpoints: Endpoints, *, now: Callable[[], float]) -> None:
        self._meter = monitor.http
        self._spans = monitor.spans
        self._endpoints = endpoints
        self._now = now

    async def around(self, exchange: Exchange, proceed: Proceed) -> Reply | None:
        """Watch one exchange from its start to its last byte."""
        serve = self._endpoints.get(exchange.path)
        if serve is not None:
            return await serve(exchange)
        self._meter.started()
        span = self._server_span(exchange)
        error: BaseException | None = None
        try:
            reply = await proceed()
            if reply is not None:
                await exchange.answer(reply)
        except BaseException as raised:
            error = raised
            raise
        finally:
            status = _outcome(exchange, error)
            route = exchange.route
            seconds = (exchange.ended_s or self._now()) - exchange.began_s
            self._meter.finished(exchange.method, route, status, seconds, _body_bytes(exchange))
            if span is not None:
                span.end(route=route, status=status, error=error)
        return None

    async def around_socket(self, proceed: Callable[[], Awaitable[None]]) -> None:
        """Count one open WebSocket."""
        self._meter.started()
        try:
            await proceed()
        finally:
            self._meter.ended()

    def _server_span(self, exchange: Exchange) -> ServerSpan | None:
        if self._spans.tracer() is None or exchange.traced_by_framework:
            return None
        known = {"url.path": exchange.path, "url.scheme": exchange.scheme}
        return self._spans.server(exchange.method, exchange.raw_fields, known)


def _outcome(exchange: Exchange, error: BaseException | None) -> int:
    """Return the status to count: what was sent, 499 where the client did not wait for it, 500 where nothing was."""
    if exchange.ended_s:
        return exchange.status
    if exchange.disconnected or isinstance(error, asyncio.CancelledError):
        return _CLIENT_LEFT
    return exchange.status or 500


def _body_bytes(exchange: Exchange) -> int:
    """Return the size of the request body: as declared, else as received."""
    if exchange.method in _BODILESS:
        return exchange.received_bytes
    declared = exchange.header("content-length")
    if declared is not None and declared.isascii() and declared.isdecimal() and len(declared) < 16:
        return int(declared)
    return exchange.received_bytes
