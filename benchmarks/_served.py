"""The example under a server, bare and with each system in front: ``uvicorn --factory benchmarks._served:NAME``.

It is `examples.fastapi_app` with a route ``/api/health`` more; the bare one has the same routes and no middleware.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from benchmarks import _web_apps as apps

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = "/api/health"


async def health() -> dict[str, str]:
    """Answer a load balancer."""
    return {"status": "ok"}


def _with_routes(app: FastAPI) -> FastAPI:
    from examples.fastapi_app import read

    app.add_api_route(PATH, health)
    app.add_api_route("/playlists/{user_id}", read)
    return app


def _unlimited() -> None:
    """Ask smw for everything but a limit: one client sends all requests, and refusing them is not what is measured."""
    import smw

    smw.configure("production", service="bench", monitor={"logs": "off"}, security={"rate_limit": None})


def bare() -> FastAPI:
    """Return the application alone."""
    return _with_routes(FastAPI())


def smw_monitoring() -> FastAPI:
    """Return it with smw's metrics."""
    from smw.web import MonitoringMiddleware

    _unlimited()
    app = bare()
    app.add_middleware(MonitoringMiddleware)
    return app


def smw_whole_stack() -> Any:
    """Return the example as it stands: `install(FastAPI())`."""
    _unlimited()
    from examples.fastapi_app import app

    app.add_api_route(PATH, health)
    return app


def instrumentator() -> FastAPI:
    """Return it with prometheus-fastapi-instrumentator."""
    app = bare()
    apps.with_instrumentator(app)
    return app


def starlette_exporter() -> FastAPI:
    """Return it with starlette_exporter."""
    app = bare()
    app.add_middleware(apps.starlette_exporter.PrometheusMiddleware, group_paths=True)
    return app


def otel() -> FastAPI:
    """Return it with OpenTelemetry's instrumentation of FastAPI, metrics alone."""
    app = bare()
    apps.Providers().fastapi(spans=False)(app)
    return app


VARIANTS: dict[str, tuple[Callable[[], Any], bool]] = {
    "bare": (bare, True),
    "smw monitoring": (smw_monitoring, True),
    "smw whole stack": (smw_whole_stack, True),
    "prometheus-fastapi-instrumentator": (instrumentator, apps.instrumentator is not None),
    "starlette_exporter": (starlette_exporter, apps.starlette_exporter is not None),
    "OpenTelemetry FastAPI, metrics": (otel, bool(apps.otel_fastapi and apps.sdk)),
}
"""What makes each variant, and whether its packages are installed."""
