"""smw gives any function or web app production middleware in one line each; every name here loads on first use."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know it by its name; importing typing would be nearly all of smw's import time

__version__ = "0.1.0"

if TYPE_CHECKING:
    from smw import cache, errors, monitor, pipeline, security, testing, web
    from smw._kernel.explain import explain
    from smw.cache import cached, invalidate
    from smw.monitor import trace, track_business_metric
    from smw.pipeline import batch_transform, stream_process
    from smw.runtime import Runtime, configure, install_signal_handlers, shutdown
    from smw.security import audit_log, require_compliance
    from smw.web import (
        ENTERPRISE_MIDDLEWARE_STACK,
        create_cache_middleware,
        create_monitoring_middleware,
        create_pipeline_middleware,
        create_security_middleware,
    )
else:
    _MODULES = ("cache", "errors", "monitor", "pipeline", "security", "testing", "web")
    _NAMES = {
        "ENTERPRISE_MIDDLEWARE_STACK": "smw.web",
        "Runtime": "smw.runtime",
        "audit_log": "smw.security",
        "batch_transform": "smw.pipeline",
        "cached": "smw.cache",
        "configure": "smw.runtime",
        "create_cache_middleware": "smw.web",
        "create_monitoring_middleware": "smw.web",
        "create_pipeline_middleware": "smw.web",
        "create_security_middleware": "smw.web",
        "explain": "smw._kernel.explain",
        "install_signal_handlers": "smw.runtime",
        "invalidate": "smw.cache",
        "require_compliance": "smw.security",
        "shutdown": "smw.runtime",
        "stream_process": "smw.pipeline",
        "trace": "smw.monitor",
        "track_business_metric": "smw.monitor",
    }

    def __getattr__(name: str) -> object:
        import importlib

        if name in _MODULES:
            return importlib.import_module(f"smw.{name}")
        if name in _NAMES:
            value = getattr(importlib.import_module(_NAMES[name]), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'smw' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "ENTERPRISE_MIDDLEWARE_STACK",
    "Runtime",
    "__version__",
    "audit_log",
    "batch_transform",
    "cache",
    "cached",
    "configure",
    "create_cache_middleware",
    "create_monitoring_middleware",
    "create_pipeline_middleware",
    "create_security_middleware",
    "errors",
    "explain",
    "install_signal_handlers",
    "invalidate",
    "monitor",
    "pipeline",
    "require_compliance",
    "security",
    "shutdown",
    "stream_process",
    "testing",
    "trace",
    "track_business_metric",
    "web",
]
