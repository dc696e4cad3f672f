"""Middleware for web applications: monitoring, security, streams, response cache; every name loads on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smw.web import fastapi, flask
    from smw.web.middleware import (
        ENTERPRISE_MIDDLEWARE_STACK,
        CacheMiddleware,
        MonitoringMiddleware,
        PipelineMiddleware,
        SecurityMiddleware,
        create_cache_middleware,
        create_monitoring_middleware,
        create_pipeline_middleware,
        create_security_middleware,
    )
else:
    _NAMES = (
        "ENTERPRISE_MIDDLEWARE_STACK",
        "CacheMiddleware",
        "MonitoringMiddleware",
        "PipelineMiddleware",
        "SecurityMiddleware",
        "create_cache_middleware",
        "create_monitoring_middleware",
        "create_pipeline_middleware",
        "create_security_middleware",
    )

    def __getattr__(name: str) -> Any:
        import importlib

        if name in ("fastapi", "flask"):
            return importlib.import_module(f"smw.web.{name}")
        if name in _NAMES:
            value = getattr(importlib.import_module("smw.web.middleware"), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'smw.web' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "ENTERPRISE_MIDDLEWARE_STACK",
    "CacheMiddleware",
    "MonitoringMiddleware",
    "PipelineMiddleware",
    "SecurityMiddleware",
    "create_cache_middleware",
    "create_monitoring_middleware",
    "create_pipeline_middleware",
    "create_security_middleware",
    "fastapi",
    "flask",
]
