"""When a span is recorded and around what: decorated calls, blocks, HTTP requests; OpenTelemetry loads only if used."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from smw._kernel.call import Call, Kind, Target
from smw._kernel.chain import Bound, Proceed
from smw.errors import ConfigError, MissingExtra, nearest
from smw.monitor.decorators import KINDS, Trace
from smw.monitor.instruments import METHODS
from smw.monitor.propagation import extract

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.trace import TracerProvider as AnyProvider

    from smw.monitor.otel import Recording
    from smw.settings import MonitorSettings

__all__ = ["ServerSpan", "SpanBlock", "Spans", "current_ids", "endpoint_of"]

_log = logging.getLogger("smw.monitor")
_FLUSH_S = 2.0
_THRIFT_PORT = 14268


def current_ids() -> tuple[str, str] | None:
    """Return trace id and span id of the current span, or None; without OpenTelemetry in use it looks at nothing."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from smw.monitor import otel

    return otel.current_ids()


def endpoint_of(settings: MonitorSettings) -> str | None:
    """Return the full URL that spans are posted to, or None where no setting names one.

    Raises:
        ConfigError: The setting is no URL that spans can be posted to.
    """
    given, setting = settings.jaeger_endpoint, "jaeger_endpoint"
    if given is None:
        given, setting = settings.otlp_endpoint, "otlp_endpoint"
    if given is None:
        return None
    url = urlsplit(given)
    try:
        port = url.port
    except ValueError:
        port = -1
    if url.scheme not in {"http", "https"} or not url.hostname or port == -1:
        fix = f"monitor={{{setting!r}: 'http://collector:4318'}}"
        raise ConfigError("SMW-M110", f"monitor setting {setting!r} is no http URL", fix=fix)
    if port == _THRIFT_PORT or url.path.rstrip("/") == "/api/traces":
        fix = "name Jaeger's OTLP port instead, usually http://host:4318"
        raise ConfigError("SMW-M111", f"monitor setting {setting!r} names Jaeger's Thrift endpoint", fix=fix)
    base = given.rstrip("/")
    whole = setting == "jaeger_endpoint" and url.path not in {"", "/"}
    return base if whole else f"{base}/v1/traces"


class Spans:
    """Decides once where the spans of a monitor go.

    A provider that the application has configured wins. Otherwise, where the settings name an endpoint, the
    monitor has a provider of its own, which exports in the background. Otherwise nothing is recorded.

    Args:
        settings: Names the endpoint.
        service: Name of the service.

    Raises:
        ConfigError: The endpoint is no URL that spans can be posted to.
        MissingExtra: `jaeger_endpoint` is set and the extra ``otel`` is not installed.
    """

    def __init__(self, settings: MonitorSettings, service: str) -> None:
        self._endpoint = endpoint_of(settings)
        self._service = service
        self._lock = threading.Lock()
        self._own: TracerProvider | None = None
        self._tracer: tuple[AnyProvider | None, Tracer | None] = (None, None)
        self._closed = False
        self._named = "OTEL_PYTHON_TRACER_PROVIDER" in os.environ
        if self._endpoint is not None:
            from smw.monitor import otel

            if not otel.has_sdk():
                missing = MissingExtra(
                    "exporting spans", package="opentelemetry-exporter-otlp-proto-http", extra="otel"
                )
                if settings.jaeger_endpoint is not None:
                    raise missing
                _log.warning("no spans are exported: %s", missing)
                self._endpoint = None

    def tracer(self) -> Tracer | None:
        """Return what makes spans, or None where nobody would see them."""
        if self._endpoint is None and not self._named and "opentelemetry.trace" not in sys.modules:
            return None
        from smw.monitor import otel

        provider = otel.global_provider() or self._own_provider()
        known, tracer = self._tracer
        if known is not provider:
            tracer = None if provider is None else otel.tracer_of(provider)
            self._tracer = provider, tracer
        return tracer

    def _own_provider(self) -> TracerProvider | None:
        if self._endpoint is None or self._closed:
            return None
        with self._lock:
            if self._own is None and not self._closed:
                from smw.monitor import otel

                self._own = otel.exporting_provider(self._endpoint, self._service)
            return self._own

    def bind(self, advice: Trace, target: Target) -> Bound | None:
        """Return the step that records a span around each call of `target`; None where nobody would see it."""
        tracer = self.tracer()
        if tracer is None:
            return None
        from smw.monitor.otel import Recorder, Step

        name = advice.span_name or target.name.replace(":", ".")
        given = advice.attributes
        fixed = {"code.function.name": target.name.replace(":", "."), **(given if isinstance(given, Mapping) else {})}
        recorder = Recorder(tracer, name, advice.kind, fixed)
        asked = given if callable(given) else None

        def begin(call: Call) -> Recording:
            recording = recorder.start()
            if asked is not None and recording.span.is_recording():
                try:
                    recording.add(asked(call.arguments))
                except Exception:  # noqa: BLE001 - telemetry must not fail the call
                    _log.exception("@trace on %s: attributes failed", target.name)
            return recording

        async def around_call(call: Call, proceed: Proceed) -> Any:
            recording = begin(call)
            abandoned = False
            recording.enter()
            try:
                return await proceed()
            except BaseException as error:
                abandoned = isinstance(error, GeneratorExit)
                _ended_by(recording, error)
                raise
            finally:
                recording.leave(abandoned=abandoned)
                recording.end()

        async def around_steps(call: Call, proceed: Proceed) -> Any:
            recording = begin(call)
            step = Step(recording)
            call.each_step(lambda: step)
            try:
                return await proceed()
            except BaseException as error:
                _ended_by(recording, error)
                raise
            finally:
                recording.end()

        return Bound(around_steps if target.kind in (Kind.GEN, Kind.ASYNC_GEN) else around_call)

    def server(
        self, method: str, headers: Any, attributes: Mapping[str, Any] | None = None, *, stepwise: bool = False
    ) -> ServerSpan | None:
        """Open the server span of a request and make it current.

        Args:
            method: HTTP method.
            headers: Its header fields, as pairs; the caller's trace context is continued.
            attributes: What else is known, such as ``url.path``.
            stepwise: It is current inside `ServerSpan.step` only.

        Returns:
            None where nobody would see it, or where a server span is already open, so that there is exactly one.
        """
        tracer = self.tracer()
        if tracer is None:
            return None
        from smw.monitor import otel

        if otel.recording_server_span():
            return None
        name = method if method in METHODS else "HTTP"
        known = {"http.request.method": method if method in METHODS else "_OTHER", **(attributes or {})}
        recording = otel.Recorder(tracer, name, "server", known).start(extract(headers))
        return ServerSpan(recording, name, stepwise=stepwise)

    def close(self) -> None:
        """Send what is left within two seconds; the application's own provider is not touched. Idempotent."""
        with self._lock:
            own, self._own = self._own, None
            self._closed = True
        if own is not None:
            from smw.monitor import otel

            if not otel.shut_down(own, within_s=_FLUSH_S):
                _log.warning("spans were given up: the collector did not take them within %.0f s", _FLUSH_S)

    def after_fork(self) -> None:
        """Give a forked child a lock of its own; the SDK restarts its own thread."""
        self._lock = threading.Lock()


def _ended_by(recording: Recording, error: BaseException) -> None:
    """Note why a call ended early: being cancelled or closed is no error of its own."""
    if isinstance(error, asyncio.CancelledError):
        recording.event("cancelled")
    elif not isinstance(error, GeneratorExit):
        recording.failed(error)


class ServerSpan:
    """The server span of one request, current from its making until `end`.

    Args:
        recording: The span.
        method: For its name, once the route is known.
        stepwise: It is current inside `step` only, because other code of this thread runs between the steps.
    """

    __slots__ = ("_method", "_recording", "_stepwise")

    def __init__(self, recording: Recording, method: str, *, stepwise: bool = False) -> None:
        self._recording = recording
        self._method = method
        self._stepwise = stepwise
        if not stepwise:
            recording.enter()

    def step(self) -> AbstractContextManager[None]:
        """Return what makes the span current while the application runs a piece of its code."""
        from smw.monitor.otel import Step

        return Step(self._recording)

    def end(self, *, route: str | None, status: int, error: BaseException | None = None) -> None:
        """Bring back the context from before and end the span.

        Args:
            route: Template of the route; None where none matched.
            status: Status sent; from 500 on the span is an error.
            error: What the application raised, if it did.
        """
        recording = self._recording
        if not self._stepwise:
            recording.leave(abandoned=isinstance(error, GeneratorExit))
        known: dict[str, Any] = {"http.response.status_code": status}
        if route is not None:
            recording.rename(f"{self._method} {route}")
            known["http.route"] = route
        recording.add(known)
        if error is not None:
            _ended_by(recording, error)
        elif status >= 500:
            recording.wrong(f"status {status}")
        recording.end()


class SpanBlock:
    """A span around a ``with`` or ``async with`` block.

    Args:
        spans: Knows where spans go.
        name: Name of the span.
        kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``.
        attributes: Attributes of the span.
        context: Parent; the current span by default.

    Raises:
        ConfigError: `kind` is unknown.
    """

    __slots__ = ("_given", "_recording", "_spans")

    def __init__(
        self, spans: Spans, name: str, kind: str, attributes: Mapping[str, Any] | None, context: Context | None
    ) -> None:
        if kind not in KINDS:
            message = f"span: unknown kind.{nearest(str(kind), KINDS)}"
            raise ConfigError("SMW-M102", message, seen=repr(kind), fix=f"one of {', '.join(KINDS)}")
        self._spans = spans
        self._given = (name, kind, attributes, context)
        self._recording: Recording | None = None

    def __enter__(self) -> Span:
        """Start the span and make it current."""
        from smw.monitor.otel import NO_SPAN, Recorder

        tracer = self._spans.tracer()
        if tracer is None:
            return NO_SPAN
        name, kind, attributes, context = self._given
        self._recording = Recorder(tracer, name, kind, attributes).start(context)
        self._recording.enter()
        return self._recording.span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span; an exception is recorded and goes on."""
        recording, self._recording = self._recording, None
        if recording is None:
            return
        if error is not None:
            _ended_by(recording, error)
        recording.leave(abandoned=isinstance(error, GeneratorExit))
        recording.end()

    async def __aenter__(self) -> Span:
        """Start the span and make it current."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span; an exception is recorded and goes on."""
        self.__exit__(kind, error, traceback)
