"""The monitor of one runtime: owns the meters, spans, logs and health, opens and closes them; knows no other part."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from smw._kernel import current
from smw._kernel.chain import advise
from smw._kernel.host import Host
from smw._kernel.process import after_fork
from smw._kernel.told import plainly
from smw.monitor import decorators, instruments, logs, propagation
from smw.monitor.business import Business
from smw.monitor.cells import Losses, Reading
from smw.monitor.events import Events
from smw.monitor.health import Health
from smw.monitor.http import HttpMeter
from smw.monitor.memory import Memory
from smw.monitor.process import Processes
from smw.monitor.pulled import Pulled
from smw.monitor.siblings import warn_of_siblings
from smw.monitor.spans import ServerSpan, SpanBlock, Spans
from smw.settings import MonitorSettings, build

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.context import Context
    from prometheus_client import CollectorRegistry

    from smw.monitor.prometheus import Listener
    from smw.monitor.shared import Shared

__all__ = ["Monitor"]

F = TypeVar("F", bound=Callable[..., Any])
_log = logging.getLogger("smw.monitor")


class Monitor:
    """Metrics, spans, JSON logs and health.

    A runtime makes its own; used alone it is complete as well: ``monitor.Monitor(prometheus_port=9100)``.

    Args:
        settings: `MonitorSettings`, or a mapping of them.
        host: What it shares with other parts; its own by default.
        **options: Single settings; they win over `settings`.

    Attributes:
        settings: The settings in force.
        http: Counts HTTP exchanges.
        health: Runs the checks.
        business: Counts decorated calls.
        spans: Records spans.

    Raises:
        ConfigError: A setting is wrong.
        MissingExtra: An endpoint for spans is set and the extra ``otel`` is not installed.
    """

    def __init__(
        self,
        settings: MonitorSettings | Mapping[str, Any] | None = None,
        *,
        host: Host | None = None,
        **options: Any,
    ) -> None:
        self.settings = build(MonitorSettings, settings, options)
        self._host = host or Host()
        limit = self.settings.series_max
        memory = Memory()
        self._losses = losses = Losses(memory)
        self.http = HttpMeter(limit=limit, losses=losses, memory=memory)
        self.business = Business(limit=limit, losses=losses, memory=memory)
        self.spans = Spans(self.settings, self._host.service)
        self.health = Health(self._host)
        self._unoffer = self._host.spans.offer(self._around, lambda: self.spans.tracer() is not None)
        self._events = Events(self._host.bus, limit=limit, losses=losses, memory=memory)
        self._pulled = Pulled(self._host.facts, memory, losses)
        self._processes = Processes(self._host.clock)
        self._shared = self._sharing(memory)
        self._lock = threading.RLock()
        self._registry: CollectorRegistry | None = None
        self._listener: Listener | None = None
        self._unlog: Callable[[], None] | None = None
        after_fork(self._after_fork)

    def _sharing(self, memory: Memory) -> Shared | None:
        folder = self.settings.workers_dir
        if folder is None:
            return None
        try:
            from smw.monitor.shared import Shared
        except ImportError:
            _log.warning("workers_dir needs file locks (flock), which this system lacks: metrics are this process's")
            return None
        meters = (self._losses, self.http, self.business, self._events, self._pulled)
        return Shared(folder, self._host, memory, meters, self._pulled, most=self.settings.series_max)

    def open(self) -> Self:
        """Start what the settings ask for: JSON logs, the own listener, figures of all workers; idempotent."""
        with self._lock:
            if self._shared is not None:
                self._shared.open()
            if self.settings.logs == "json" and self._unlog is None:
                self._unlog = logs.install()
            if self.settings.prometheus_port is not None and self._listener is None:
                from smw.monitor.prometheus import Listener

                everywhere = "0.0.0.0" if self._host.profile == "production" else "127.0.0.1"  # noqa: S104 - for scrapers
                address = self.settings.prometheus_host or everywhere
                self._listener = Listener(self.registry, address, self.settings.prometheus_port)
        return self

    def close(self) -> None:
        """Stop listening, send the last spans within two seconds, take the log handler away; idempotent.

        The figures stay readable.
        """
        with self._lock:
            listener, self._listener = self._listener, None
            unlog, self._unlog = self._unlog, None
        self.health.close()
        self._events.close()
        self._unoffer()
        if listener is not None:
            listener.close()
        if self._shared is not None:
            self._shared.close()
        self.spans.close()
        if unlog is not None:
            unlog()

    async def aclose(self) -> None:
        """Close without blocking the event loop; idempotent."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        """Open it."""
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Open it."""
        return self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        if self._shared is not None:
            self._shared.after_fork()
        for meter in (self._losses, self.http, self.business, self._events, self._pulled):
            meter.after_fork()
        for other in (self._processes, self.spans, self.health):
            other.after_fork()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.after_fork()

    # --- decorators and spans -------------------------------------------------------------------------------------

    @plainly("@trace", "@monitor.trace()")
    def trace(
        self, name: str | None = None, *, kind: str = "internal", attributes: decorators.Attributes | None = None
    ) -> Callable[[F], F]:
        """Record one span around each call, through this monitor; see `smw.monitor.trace`."""
        return advise(decorators.Trace(name, kind, attributes, self))

    @plainly("@track_business_metric", '@monitor.track_business_metric("playlist_created")')
    def track_business_metric(
        self,
        name: str,
        *,
        value: Callable[[Any], float] | None = None,
        labels: decorators.LabelValues | None = None,
    ) -> Callable[[F], F]:
        """Count the calls of a function in this monitor; see `smw.monitor.track_business_metric`."""
        return advise(decorators.BusinessMetric(name, value, labels, self))

    def span(
        self,
        name: str,
        *,
        kind: str = "internal",
        attributes: Mapping[str, Any] | None = None,
        context: Context | None = None,
    ) -> SpanBlock:
        """Record a span around a block; see `smw.monitor.span`."""
        return SpanBlock(self.spans, name, kind, attributes, context)

    def _around(self, name: str, kind: str, attributes: Mapping[str, Any]) -> SpanBlock:
        """Return the block for a span that another part asks for."""
        return SpanBlock(self.spans, name, kind, attributes, None)

    def server_span(self, method: str, headers: Any, attributes: Mapping[str, Any] | None = None) -> ServerSpan | None:
        """Open the server span of a request; None where nobody would see it or one is open; see `Spans.server`."""
        return self.spans.server(method, headers, attributes)

    @staticmethod
    def inject(carrier: propagation.Carrier) -> propagation.Carrier:
        """Write the current trace context into `carrier`; see `smw.monitor.inject`."""
        return propagation.inject(carrier)

    @staticmethod
    def extract(carrier: Any) -> Context:
        """Read the trace context that `carrier` holds; see `smw.monitor.extract`."""
        return propagation.extract(carrier)

    def check(self, name: str, probe: Callable[[], Any], *, critical: bool = True, timeout_s: float = 1.0) -> None:
        """Add a health check; see `smw.monitor.check`."""
        self.health.add(name, probe, critical=critical, timeout_s=timeout_s)

    # --- metrics --------------------------------------------------------------------------------------------------

    @property
    def registry(self) -> CollectorRegistry:
        """The Prometheus registry of this monitor; own metrics are registered with it."""
        with self._lock:
            if self._registry is None:
                from smw.monitor.prometheus import registry_of

                self._registry = registry_of(self.readings)
            return self._registry

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Return content type and text of all metrics, in the format that the Accept header asks for."""
        from smw.monitor.prometheus import expose

        return expose(self.registry, accept)

    def readings(self) -> Iterator[Reading]:
        """Yield every metric as it stands now; declared ones without a series come empty."""
        for instrument in instruments.DECLARED:
            yield Reading(instrument, [])
        self._declare_business()
        readings, others = self._of_all_workers() or (self._own(), set[int]())
        yield from readings
        yield from self._process_facts(others)

    def _of_all_workers(self) -> tuple[Iterable[Reading], set[int]] | None:
        """Return the metrics of all workers and the other workers' process ids; None where figures are private."""
        if self._shared is None:
            warn_of_siblings()
            return None
        try:
            return self._shared.readings()
        except Exception:  # noqa: BLE001 - a scrape shows what can be had
            _log.exception("the other workers could not be looked at")
            return None

    def _own(self) -> Iterator[Reading]:
        yield from self.http.read()
        yield from self.business.read()
        yield from self._events.read()
        yield from self._pulled.read()
        yield self._losses.read()

    def _process_facts(self, others: set[int]) -> list[Reading]:
        try:
            return list(self._processes.read(others))
        except Exception:  # noqa: BLE001 - a scrape shows what can be had
            _log.exception("the process could not be looked at")
            return []

    def _declare_business(self) -> None:
        """Let business metrics show before their first call, where this monitor is the one that will count them."""
        mine = self._is_current()
        for metric in decorators.declared():
            if metric.owner is self or (metric.owner is None and mine):
                self.business.declare(metric)

    def _is_current(self) -> bool:
        runtime: Any = current.get()
        return bool(getattr(runtime, "is_open", False)) and runtime.host is self._host
