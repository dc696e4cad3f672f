"""Counts, times and traces every exchange, answers scrapes and probes; knows no export format."""

from __future__ import annotations

import asyncio
import math
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
_LOOK_AGAIN_S = 1.0
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
        # Asking whether somebody wants spans costs more than counting does, so it is not asked for every request.
        self._traces = False
        self._look_again_s = -math.inf

    async def around(self, exchange: Exchange, proceed: Proceed) -> Reply | None:
        """Watch one exchange from its start to its last byte."""
        serve = self._endpoints.get(exchange.path)
        if serve is not None:
            return await serve(exchange)
        if exchange.began_s >= self._look_again_s:
            self._look_again_s = exchange.began_s + _LOOK_AGAIN_S
            self._traces = self._spans.tracer() is not None
        span = self._server_span(exchange) if self._traces else None
        self._meter.started()
        error: BaseException | None = None
        try:
            reply = await proceed()
            if isinstance(reply, Reply):
                await exchange.answer(reply)
        except BaseException as raised:
            error = raised
            raise
        finally:
            ended_s = exchange.ended_s
            status = exchange.status if ended_s else _outcome(exchange, error)
            route, method = exchange.route, exchange.method
            body_bytes = exchange.received_bytes if method in _BODILESS else _body_bytes(exchange)
            self._meter.finished(method, route, status, (ended_s or self._now()) - exchange.began_s, body_bytes)
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
        if exchange.traced_by_framework:
            return None
        known = {"url.path": exchange.path, "url.scheme": exchange.scheme}
        span = self._spans.server(exchange.method, exchange.raw_fields, known, stepwise=exchange.stepwise)
        if span is not None and exchange.stepwise:
            exchange.step = span.step()
        return span


def _outcome(exchange: Exchange, error: BaseException | None) -> int:
    """Return the status of an incomplete exchange: 499 where the client left, else what was sent, else 500."""
    if exchange.disconnected or isinstance(error, asyncio.CancelledError | GeneratorExit):
        return _CLIENT_LEFT
    return exchange.status or 500


def _body_bytes(exchange: Exchange) -> int:
    """Return the size of the request body: as declared, else as received."""
    declared = exchange.header("content-length")
    if declared is not None and declared.isascii() and declared.isdecimal() and len(declared) < 16:
        return int(declared)
    return exchange.received_bytes
