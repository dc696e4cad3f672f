"""Whether an application below will open the server spans of its requests itself; reads it, imports no framework."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_global", "native"]

_STARLETTE = "starlette.middleware.opentelemetry"
_DEEPEST = 100


def native(app: Any) -> Callable[[], bool] | None:
    """Return what tells for a request whether the telemetry of the framework itself traces it.

    The middlewares below are looked through: Starlette's `OpenTelemetryMiddleware`, and FastAPI, which is
    instrumented by itself. Both record by a provider of their own, else by the one that is configured globally.

    Args:
        app: The application next below.

    Returns:
        None where nothing below has telemetry.
    """
    for _ in range(_DEEPEST):
        if app is None:
            break
        if _is_starlettes(type(app)):
            return _by(getattr(app, "_tracer_provider", None))
        fastapi = getattr(getattr(app, "_native_telemetry", None), "config", None)
        if isinstance(fastapi, dict) and fastapi.get("tracing"):
            return _by(fastapi.get("tracer_provider"))
        for added in getattr(app, "user_middleware", ()):
            if _is_starlettes(added.cls):
                return _by(added.kwargs.get("tracer_provider"))
        app = getattr(app, "app", None)
    return None


def _is_starlettes(kind: Any) -> bool:
    return isinstance(kind, type) and any(base.__module__ == _STARLETTE for base in kind.__mro__)


def _by(given: Any) -> Callable[[], bool]:
    """Return whether the framework sees to spans: by the provider it was given, else where there is a global one."""
    if given is None or type(given).__name__ == "ProxyTracerProvider":
        return is_global
    return lambda: True  # one that records nothing included: it was given on purpose


def is_global() -> bool:
    """Tell whether the application has configured a provider for everybody."""
    if "opentelemetry.trace" not in sys.modules:
        return False
    from smw.monitor import otel

    return otel.global_provider() is not None
