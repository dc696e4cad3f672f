"""Metrics, spans, business metrics, JSON logs and health of a service; every name here loads on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smw.monitor.decorators import check, exposition, extract, inject, span, trace, track_business_metric
    from smw.monitor.logs import JsonFormatter
    from smw.monitor.monitor import Monitor
else:
    _NAMES = {
        "JsonFormatter": "smw.monitor.logs",
        "Monitor": "smw.monitor.monitor",
        "check": "smw.monitor.decorators",
        "exposition": "smw.monitor.decorators",
        "extract": "smw.monitor.decorators",
        "inject": "smw.monitor.decorators",
        "span": "smw.monitor.decorators",
        "trace": "smw.monitor.decorators",
        "track_business_metric": "smw.monitor.decorators",
    }

    def __getattr__(name: str) -> Any:
        import importlib

        if name in _NAMES:
            value = getattr(importlib.import_module(_NAMES[name]), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'smw.monitor' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "JsonFormatter",
    "Monitor",
    "check",
    "exposition",
    "extract",
    "inject",
    "span",
    "trace",
    "track_business_metric",
]
