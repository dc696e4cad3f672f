"""The four middlewares as classes and the factories that preset them; the policies behind them decide everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from smw.web.adapter import Adapter
from smw.web.policies.monitoring import MonitoringSource
from smw.web.policies.pipeline import PipelineSource
from smw.web.policies.response_cache import ResponseCacheSource
from smw.web.policies.security import SecuritySource

if TYPE_CHECKING:
    from smw.web.source import PolicySource

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
]


class MonitoringMiddleware(Adapter):
    """Metrics and server spans of every exchange; serves ``/metrics`` and ``/health``."""

    source: ClassVar[type[PolicySource]] = MonitoringSource


class SecurityMiddleware(Adapter):
    """Body size cap, client address behind proxies, rate limit; turns denials into 403."""

    source: ClassVar[type[PolicySource]] = SecuritySource


class PipelineMiddleware(Adapter):
    """Ties the streams to the life of the application."""

    source: ClassVar[type[PolicySource]] = PipelineSource


class CacheMiddleware(Adapter):
    """Answers GET and HEAD from what the application explicitly allowed to be stored."""

    source: ClassVar[type[PolicySource]] = ResponseCacheSource


def create_monitoring_middleware(profile: str | None = None, **overrides: Any) -> type[MonitoringMiddleware]:
    """Return the monitoring middleware for ``app.add_middleware(...)``.

    Args:
        profile: ``development``, ``testing`` or ``production``; None is the runtime's.
        **overrides: ``metrics_path``, ``health_path``; None switches an endpoint off.

    Raises:
        ConfigError: The profile or a setting is wrong; names the nearest valid one.
    """
    return MonitoringMiddleware.configured(profile, overrides)


def create_security_middleware(profile: str | None = None, **overrides: Any) -> type[SecurityMiddleware]:
    """Return the security middleware for ``app.add_middleware(...)``.

    Args:
        profile: ``development``, ``testing`` or ``production``; None is the runtime's.
        **overrides: ``rate_limit``, ``trusted_proxies``, ``max_body_bytes``.

    Raises:
        ConfigError: The profile or a setting is wrong; names the nearest valid one.
    """
    return SecurityMiddleware.configured(profile, overrides)


def create_pipeline_middleware(profile: str | None = None, **overrides: Any) -> type[PipelineMiddleware]:
    """Return the pipeline middleware for ``app.add_middleware(...)``.

    Args:
        profile: ``development``, ``testing`` or ``production``; None is the runtime's.
        **overrides: ``in_app``: streams to serve in this process while the application lives, such as
            ``("user_events",)``. In-memory streams need it, others may have workers of their own.

    Raises:
        ConfigError: The profile or a setting is wrong; names the nearest valid one.
    """
    return PipelineMiddleware.configured(profile, overrides)


def create_cache_middleware(profile: str | None = None, **overrides: Any) -> type[CacheMiddleware]:
    """Return the response cache for ``app.add_middleware(...)``.

    Args:
        profile: ``development``, ``testing`` or ``production``; None is the runtime's.
        **overrides: ``response_cache_max_bytes``; 0 stores nothing.

    Raises:
        ConfigError: The profile or a setting is wrong; names the nearest valid one.
    """
    return CacheMiddleware.configured(profile, overrides)


ENTERPRISE_MIDDLEWARE_STACK: list[tuple[type[Adapter], dict[str, Any]]] = [
    (MonitoringMiddleware, {}),
    (SecurityMiddleware, {}),
    (PipelineMiddleware, {}),
    (CacheMiddleware, {}),
]
"""All four, set as the runtime is; each pair is given to ``app.add_middleware(middleware_class, **config)``."""
