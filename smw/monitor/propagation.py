"""Where trace context is carried: mappings, ASGI and Kafka headers, Redis fields; the wording is OpenTelemetry's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from opentelemetry.context import Context

__all__ = ["Carrier", "extract", "inject"]

Carrier = TypeVar("Carrier", bound=MutableMapping[str, Any] | list[tuple[Any, Any]])
_FIELDS = frozenset({"traceparent", "tracestate", "baggage"})
_FIELD_BYTES_MAX = 8192


def inject(carrier: Carrier) -> Carrier:
    """Write the current trace context into `carrier`, replacing what it held, and return it.

    A mapping gets text, a list gets (name, bytes) pairs. Without a current span nothing is written, so that
    what another service sent is passed on as it is.
    """
    from smw.monitor import otel

    fields = dict(otel.inject())
    if not fields:
        return carrier
    if isinstance(carrier, list):
        carrier[:] = [pair for pair in carrier if _text(pair[0]).lower() not in {"traceparent", "tracestate"}]
        carrier.extend((name, value.encode()) for name, value in fields.items())
    else:
        for name in [n for n in carrier if _text(n).lower() in {"traceparent", "tracestate"}]:
            del carrier[name]
        carrier.update(fields)
    return carrier


def extract(carrier: Any) -> Context:
    """Read trace context and baggage from a mapping or pairs of text or bytes; names in any case."""
    from smw.monitor import otel

    fields: dict[str, list[str]] = {}
    for name, value in _pairs(carrier):
        key = _text(name).lower()
        if key in _FIELDS:
            fields.setdefault(key, []).extend(_values(value))
    if len(fields.get("traceparent", ())) > 1:
        return otel.extract({})  # W3C: more than one traceparent is none
    for name in ("tracestate", "baggage"):
        if name in fields:
            fields[name] = [",".join(fields[name])]
    return otel.extract({name: values for name, values in fields.items() if len(values[0]) <= _FIELD_BYTES_MAX})


def _pairs(carrier: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(carrier, Mapping):
        return carrier.items()
    if not isinstance(carrier, Iterable):
        return ()
    return [(pair[0], pair[1]) for pair in carrier if isinstance(pair, tuple | list) and len(pair) == 2]


def _values(value: Any) -> list[str]:
    return [_text(item) for item in value] if isinstance(value, list | tuple) else [_text(value)]


def _text(value: Any) -> str:
    return bytes(value).decode("latin-1") if isinstance(value, bytes | bytearray | memoryview) else str(value)
