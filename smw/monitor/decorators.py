"""The decorators and functions users import: what they accept; what they do is the monitor's, found at first call."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from smw._kernel import current
from smw._kernel.chain import Advice, Bound, advise
from smw._kernel.process import ForkLock
from smw._kernel.told import plainly
from smw.errors import DecorationError, nearest
from smw.monitor.instruments import BUSINESS_NAME, LABEL_NAME

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from smw._kernel.call import Target
    from smw.monitor.monitor import Monitor
    from smw.monitor.propagation import Carrier

__all__ = [
    "BusinessMetric",
    "Trace",
    "check",
    "exposition",
    "extract",
    "inject",
    "span",
    "trace",
    "track_business_metric",
]

F = TypeVar("F", bound=Callable[..., Any])
Arguments = Mapping[str, object]
Attributes = Mapping[str, Any] | Callable[[Arguments], Mapping[str, Any]]
LabelValues = Mapping[str, str | Callable[[Arguments], str]]
KINDS = ("internal", "server", "client", "producer", "consumer")


class Trace(Advice):
    """One span around each call.

    Args:
        span_name: Name of the span; None takes ``module.qualname``.
        kind: One of `KINDS`.
        attributes: Attributes of the span.
        owner: The monitor it belongs to; None takes the current runtime's.

    Raises:
        DecorationError: An argument is of the wrong type, or the kind is unknown.
    """

    name = "trace"

    def __init__(self, span_name: object, kind: object, attributes: object, owner: Monitor | None) -> None:
        if span_name is not None and not isinstance(span_name, str):
            fix = "write @monitor.trace(), with parentheses"
            raise DecorationError("SMW-M101", "@trace needs a text for a name", fix=fix)
        if not isinstance(kind, str) or kind not in KINDS:
            message = f"@trace: unknown kind.{nearest(str(kind), KINDS)}"
            raise DecorationError("SMW-M102", message, seen=repr(kind), fix=f"one of {', '.join(KINDS)}")
        if attributes is not None and not callable(attributes) and not isinstance(attributes, Mapping):
            fix = "a mapping, or a function from the call's arguments to one"
            raise DecorationError("SMW-M103", "@trace: attributes must be a mapping", seen=type(attributes), fix=fix)
        self.span_name = span_name
        self.kind = kind
        self.attributes = cast("Attributes | None", attributes)
        self.owner = owner

    def bind(self, target: Target) -> Bound | None:
        """Find the monitor; None where no spans are recorded, so that nothing is paid for them."""
        monitor: Monitor = self.owner or current.part("monitor")
        return monitor.spans.bind(self, target)

    def describe(self) -> str:
        """Return the decorator as written."""
        return f"@trace({self.span_name!r})" if self.span_name else "@trace()"


class BusinessMetric(Advice):
    """Counts calls by outcome, once each has ended.

    Args:
        metric: Name between ``business_`` and ``_total``.
        value: From a call's result to a number that is observed.
        labels: Further labels: a text, or a function from the call's arguments to one.
        owner: The monitor it belongs to; None takes the current runtime's.

    Raises:
        DecorationError: A name is no valid metric or label name, or an argument is of the wrong type.
    """

    name = "track_business_metric"

    def __init__(
        self,
        metric: object,
        value: object,
        labels: Mapping[str, Any] | None,
        owner: Monitor | None,
    ) -> None:
        if not isinstance(metric, str) or not BUSINESS_NAME.fullmatch(metric) or metric.endswith(("_total", "_value")):
            message = "@track_business_metric needs the name of a metric"
            fix = "letters, digits and _, not ending in _total or _value, such as 'playlist_created'"
            raise DecorationError("SMW-M104", message, seen=repr(metric), fix=fix)
        if value is not None and not callable(value):
            fix = "value=lambda result: result.total"
            raise DecorationError("SMW-M105", "@track_business_metric: value must be a function", seen=value, fix=fix)
        for label, source in (labels or {}).items():
            if not LABEL_NAME.fullmatch(label) or label in {"outcome", "le"}:
                fix = "letters, digits and _; not 'outcome', not 'le'"
                raise DecorationError("SMW-M106", "@track_business_metric: bad label name", seen=repr(label), fix=fix)
            if not callable(source) and not isinstance(source, str):
                fix = "a text, or a function from the call's arguments to one"
                raise DecorationError("SMW-M107", f"@track_business_metric: label {label!r}", seen=source, fix=fix)
        self.metric = metric
        self.value = cast("Callable[[Any], float] | None", value)
        self.labels: LabelValues = dict(labels or {})
        self.owner = owner
        with _lock:
            _declared.add(self)

    def bind(self, target: Target) -> Bound | None:
        """Find the monitor that counts."""
        monitor: Monitor = self.owner or current.part("monitor")
        return monitor.business.bind(self, target)

    def describe(self) -> str:
        """Return the decorator as written."""
        return f"@track_business_metric({self.metric!r})"


_lock = ForkLock()
_declared: weakref.WeakSet[BusinessMetric] = weakref.WeakSet()


def declared() -> list[BusinessMetric]:
    """Return the business metrics of all living decorated functions, called or not."""
    with _lock:
        return list(_declared)


@plainly("@trace", "@trace()")
def trace(name: str | None = None, *, kind: str = "internal", attributes: Attributes | None = None) -> Callable[[F], F]:
    """Record one span around each call of a function, method, coroutine function or (async) generator.

    Without a configured OpenTelemetry SDK and without an endpoint in the settings it costs nothing. An exception
    is recorded, sets the span's status to error, and is re-raised unchanged. A generator's span ends when the
    generator does, and is current only while its own code runs.

    Args:
        name: Name of the span; ``module.qualname`` by default.
        kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``.
        attributes: A mapping, or a function from the call's arguments by name to one.

    Raises:
        DecorationError: An argument is of the wrong type, or `kind` is unknown.
    """
    return advise(Trace(name, kind, attributes, None))


@plainly("@track_business_metric", '@track_business_metric("playlist_created")')
def track_business_metric(
    name: str, *, value: Callable[[Any], float] | None = None, labels: LabelValues | None = None
) -> Callable[[F], F]:
    """Count the calls of a function as ``business_<name>_total{outcome}``, once each has ended.

    The outcome is ``success``, ``error`` or ``cancelled`` (a cancelled task, a generator closed early); all three
    start at 0. Above ``@cached`` it counts requests, below it executions.

    Args:
        name: Name of the metric: letters, digits and underscores.
        value: From the result of a successful call to a number, observed in ``business_<name>_value``.
        labels: Further labels of few values: a text, or a function from the call's arguments by name to one.

    Raises:
        DecorationError: A name is no valid metric or label name, or an argument is of the wrong type.
    """
    return advise(BusinessMetric(name, value, labels, None))


def span(
    name: str, *, kind: str = "internal", attributes: Mapping[str, Any] | None = None, context: Context | None = None
) -> AbstractContextManager[Span]:
    """Record a span around a block: ``with monitor.span("parse") as span: span.set_attribute("rows", 3)``.

    Args:
        name: Name of the span.
        kind: As for `trace`.
        attributes: Attributes of the span.
        context: Parent, such as `extract` returns it; the current span by default.
    """
    return _monitor().span(name, kind=kind, attributes=attributes, context=context)


def inject(carrier: Carrier) -> Carrier:
    """Write the current span's W3C trace context into `carrier` and return it.

    Args:
        carrier: A mutable mapping of headers, or a list of (name, bytes) pairs as Kafka and ASGI have them.
    """
    from smw.monitor import propagation

    return propagation.inject(carrier)


def extract(carrier: Any) -> Context:
    """Read the W3C trace context and baggage of a message or request; never raises on what it finds.

    Args:
        carrier: A mapping or a list of pairs; names and values are text or bytes.

    Returns:
        What `span` takes as ``context``; empty where nothing valid was found.
    """
    from smw.monitor import propagation

    return propagation.extract(carrier)


def check(name: str, probe: Callable[[], Any], *, critical: bool = True, timeout_s: float = 1.0) -> None:
    """Add a health check to the current runtime.

    Args:
        name: Name in the answer; a second check of the same name replaces the first. Where smw itself tells something
            by that name, such as ``cache.l2``, the worse of the two is shown.
        probe: Function or coroutine function; returns False or raises when the dependency is not well.
        critical: Whether the service cannot work without it; otherwise a failure is a warning.
        timeout_s: When no answer counts as failed.
    """
    _monitor().check(name, probe, critical=critical, timeout_s=timeout_s)


def exposition(accept: str = "") -> tuple[str, bytes]:
    """Return the content type and text of every metric of the current runtime.

    Args:
        accept: The scraper's Accept header; decides between OpenMetrics and the classic Prometheus format.
    """
    return _monitor().exposition(accept)


def _monitor() -> Monitor:
    monitor: Monitor = current.part("monitor")
    return monitor
