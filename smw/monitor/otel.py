"""All that smw does with OpenTelemetry: whose provider, a span in flight, W3C context; never blocks or fails a call."""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from smw.errors import MissingExtra

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.sdk.trace import TracerProvider

__all__ = [
    "NO_SPAN",
    "Recorder",
    "Recording",
    "Step",
    "current_ids",
    "exporting_provider",
    "extract",
    "global_provider",
    "has_sdk",
    "inject",
    "recording_server_span",
    "shut_down",
    "tracer_of",
]

NO_SPAN = trace.INVALID_SPAN
"""What stands for a span that nobody would see."""
_log = logging.getLogger("smw.monitor")
_EXPORT_TIMEOUT_S = 5
_PLAIN = (str, bool, int, float)
_W3C = TraceContextTextMapPropagator()
_BAGGAGE = W3CBaggagePropagator()


def global_provider() -> trace.TracerProvider | None:
    """Return the provider that the application has configured, or None where the API would record nothing."""
    provider = trace.get_tracer_provider()
    idle = isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider)
    return None if idle else provider


def has_sdk() -> bool:
    """Tell whether the packages of the extra ``otel`` are installed, without importing them."""
    try:
        names = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
        return all(importlib.util.find_spec(name) is not None for name in names)
    except ModuleNotFoundError:
        return False


def exporting_provider(endpoint: str, service: str) -> TracerProvider:
    """Return a provider that sends spans in batches, from a thread of its own, to an OTLP/HTTP collector.

    Args:
        endpoint: Full URL, path included.
        service: Name of the service; "" leaves it to ``OTEL_SERVICE_NAME``.

    Raises:
        MissingExtra: The SDK or the exporter is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise MissingExtra("exporting spans", package=package, extra="otel") from None
    resource = Resource.create({"service.name": service} if service else {})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    return provider


def shut_down(provider: TracerProvider, *, within_s: float) -> bool:
    """Send what is left and stop; give up after `within_s`, as the SDK's own bound is that of the network.

    Returns:
        Whether everything was sent or refused in time.
    """
    thread = threading.Thread(target=provider.shutdown, name="smw-spans-flush", daemon=True)
    thread.start()
    thread.join(within_s)
    return not thread.is_alive()


def tracer_of(provider: trace.TracerProvider) -> trace.Tracer:
    """Return smw's tracer of a provider."""
    return provider.get_tracer("smw")


def current_ids() -> tuple[str, str] | None:
    """Return trace id and span id of the current span in hexadecimal, or None."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


def recording_server_span() -> bool:
    """Tell whether somebody else has already opened the server span of this request."""
    span = trace.get_current_span()
    return span.is_recording() and getattr(span, "kind", None) is trace.SpanKind.SERVER


def _plain(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Sequence) and not isinstance(value, bytes) and len({type(v) for v in value}) <= 1:
        return [v if isinstance(v, _PLAIN) else str(v) for v in value]
    return str(value)


def _attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): _plain(value) for name, value in attributes.items() if value is not None}


class Recorder:
    """Starts the spans of one place in the code.

    Args:
        tracer: Makes them.
        name: Their name.
        kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``.
        attributes: What all of them have; values of other types than OpenTelemetry's become text.
    """

    __slots__ = ("_attributes", "_kind", "_name", "_tracer")

    def __init__(self, tracer: trace.Tracer, name: str, kind: str, attributes: Mapping[str, Any] | None) -> None:
        self._tracer = tracer
        self._name = name
        self._kind = trace.SpanKind[kind.upper()]
        self._attributes = _attributes(attributes or {})

    def start(self, parent: Context | None = None) -> Recording:
        """Start a span.

        Args:
            parent: Context it continues; the current one by default.
        """
        current = contexts.get_current()
        base = current if parent is None else parent
        try:
            span = self._tracer.start_span(self._name, context=base, kind=self._kind, attributes=self._attributes)
            return Recording(span, trace.set_span_in_context(span, base), current)
        except Exception:  # noqa: BLE001 - telemetry must not fail the call
            _log.exception("a span could not be started")
            return Recording(NO_SPAN, base, current)


class Recording:
    """One span in flight. A telemetry SDK that fails here is logged and never reaches the call it watches.

    Args:
        span: The span.
        context: The context in which it is current.
        before: The context in which it was started.
    """

    __slots__ = ("_before", "context", "span")

    def __init__(self, span: trace.Span, context: Context, before: Context) -> None:
        self.span = span
        self.context = context
        self._before = before

    def enter(self) -> None:
        """Make the span current in the running context."""
        contexts.attach(self.context)

    def leave(self, *, abandoned: bool = False) -> None:
        """Bring back what was current before.

        By value and not by token: a token is bound to one Python context, and a coroutine that is thrown away
        may be closed in another.

        Args:
            abandoned: The coroutine is being closed, maybe elsewhere; then a foreign context is left alone.
        """
        if not abandoned or contexts.get_current() is self.context:
            contexts.attach(self._before)

    def add(self, attributes: Mapping[str, Any]) -> None:
        """Set further attributes."""
        _quietly(lambda: self.span.set_attributes(_attributes(attributes)))

    def rename(self, name: str) -> None:
        """Set the name, once it is known."""
        _quietly(lambda: self.span.update_name(name))

    def failed(self, error: BaseException) -> None:
        """Record an exception and set the status to error."""
        self.wrong(type(error).__name__)
        _quietly(lambda: self.span.record_exception(error))

    def wrong(self, why: str) -> None:
        """Set the status to error."""
        _quietly(lambda: self.span.set_status(trace.Status(trace.StatusCode.ERROR, why)))

    def event(self, name: str) -> None:
        """Note that something happened."""
        _quietly(lambda: self.span.add_event(name))

    def end(self) -> None:
        """End the span."""
        _quietly(self.span.end)


def _quietly(act: Callable[[], object]) -> None:
    try:
        act()
    except Exception:  # noqa: BLE001 - telemetry must not fail the call
        _log.exception("a span could not be completed")


class Step:
    """Makes a span current while a generator runs its own code, and only then.

    What the generator leaves current at a ``yield`` (a span of its own) is kept for its next step.

    Args:
        recording: The generator's span.
    """

    __slots__ = ("_inside", "_outside")

    def __init__(self, recording: Recording) -> None:
        self._inside = self._outside = recording.context

    def __enter__(self) -> None:
        """Change to the generator's context."""
        self._outside = contexts.get_current()
        contexts.attach(self._inside)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Change back to the consumer's context."""
        self._inside = contexts.get_current()
        contexts.attach(self._outside)


class _Fields(Getter[Mapping[str, list[str]]]):
    def get(self, carrier: Mapping[str, list[str]], key: str) -> list[str] | None:
        """Return every value of a field."""
        return carrier.get(key)

    def keys(self, carrier: Mapping[str, list[str]]) -> list[str]:
        """Return the names of the fields."""
        return list(carrier)


class _Collect(Setter[dict[str, str]]):
    def set(self, carrier: dict[str, str], key: str, value: str) -> None:
        """Set a field."""
        carrier[key] = value


def inject() -> Iterable[tuple[str, str]]:
    """Return the W3C trace context of the current span as header fields; empty without one."""
    fields: dict[str, str] = {}
    _W3C.inject(fields, setter=_Collect())
    return fields.items()


def extract(fields: Mapping[str, list[str]]) -> Context:
    """Return the context that lower-cased header fields describe; what is malformed counts as absent."""
    if not fields:
        return Context()  # most requests come without: spare them two propagators
    getter = _Fields()
    try:
        return _BAGGAGE.extract(fields, context=_W3C.extract(fields, context=Context(), getter=getter), getter=getter)
    except Exception:  # noqa: BLE001 - what others send is never an error
        _log.exception("trace context could not be read")
        return Context()
