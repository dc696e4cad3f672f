"""The applications that `web` measures: FastAPI and Flask, bare and with each peer in front; measures nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from flask import Flask

from benchmarks._peers import optional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

instrumentator = optional("prometheus_fastapi_instrumentator")
starlette_exporter = optional("starlette_exporter")
flask_exporter = optional("prometheus_flask_exporter")
otel_fastapi = optional("opentelemetry.instrumentation.fastapi")
otel_asgi = optional("opentelemetry.instrumentation.asgi")
otel_flask = optional("opentelemetry.instrumentation.flask")
otel_wsgi = optional("opentelemetry.instrumentation.wsgi")
sdk = optional("opentelemetry.sdk.trace")

Prepare = "Callable[[Any], object]"
SILENT: dict[str, Any] = {"tracing": False, "metrics": False, "logs": False}


class Empty:
    """The least that a middleware can be."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class EmptyWsgi(Empty):
    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)


def asgi(
    prepare: Callable[[FastAPI], object] | None = None, *, routes: int = 0, telemetry: dict[str, Any] | None = None
) -> FastAPI:
    """Return the FastAPI application behind `routes` others; `prepare` puts something in front of it."""
    app = FastAPI(openapi_url=None, telemetry=telemetry)  # type: ignore[arg-type]
    for number in range(routes):
        app.add_api_route(f"/r{number}/{{x}}", lambda x: x)

    @app.get("/hello/{name}")
    async def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    if prepare:
        prepare(app)
    return app


def wsgi(prepare: Callable[[Flask], object] | None = None, *, routes: int = 0) -> Flask:
    """Return the same of Flask."""
    app = Flask("bench")
    for number in range(routes):
        app.add_url_rule(f"/r{number}/<x>", f"r{number}", lambda x: x)

    @app.get("/hello/<name>")
    def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    if prepare:
        prepare(app)
    return app


def added(middleware: Any, **options: Any) -> Callable[[Any], object]:
    """Return what puts a middleware in front, the way of either framework."""

    def prepare(app: Any) -> None:
        if isinstance(app, Flask):
            app.wsgi_app = middleware(app.wsgi_app, **options)  # type: ignore[method-assign]
        else:
            app.add_middleware(middleware, **options)

    return prepare


def with_instrumentator(app: FastAPI) -> object:
    from prometheus_client import CollectorRegistry

    return instrumentator.Instrumentator(registry=CollectorRegistry()).instrument(app)


def with_flask_exporter(app: Flask) -> object:
    from prometheus_client import CollectorRegistry

    return flask_exporter.PrometheusMetrics(app, registry=CollectorRegistry(), group_by="url_rule")


class Providers:
    """OpenTelemetry's SDK: histograms kept for a reader, every span recorded, exported in batches to nowhere."""

    def __init__(self) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
        from opentelemetry.trace import NoOpTracerProvider

        class Nowhere(SpanExporter):
            def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002 - that is the point
                return SpanExportResult.SUCCESS

        self.meters = MeterProvider(metric_readers=[InMemoryMetricReader()], shutdown_on_exit=False)
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(BatchSpanProcessor(Nowhere()))
        self.no_tracers = NoOpTracerProvider()

    @contextlib.contextmanager
    def everywhere(self) -> Iterator[None]:
        """Make the spans' provider the one that the application has configured, as smw finds it."""
        from opentelemetry import trace

        before = trace._TRACER_PROVIDER  # noqa: SLF001 - the public setter works once a process
        trace._TRACER_PROVIDER = self.tracers  # noqa: SLF001 - the same
        try:
            yield
        finally:
            trace._TRACER_PROVIDER = before  # noqa: SLF001 - the same

    def close(self) -> None:
        """Stop the thread that exports."""
        self.tracers.shutdown()
        self.meters.shutdown()

    def options(self, *, spans: bool) -> dict[str, Any]:
        """Return the options of an instrumentation."""
        return {"meter_provider": self.meters, "tracer_provider": self.tracers if spans else self.no_tracers}

    def native(self, *, spans: bool) -> dict[str, Any]:
        """Return the options of FastAPI's own telemetry."""
        common = {"tracing": spans, "metrics": True, "logs": False, "operation_spans": False}
        return common | {"meter_provider": self.meters} | ({"tracer_provider": self.tracers} if spans else {})

    def fastapi(self, *, spans: bool, **more: Any) -> Callable[[FastAPI], object]:
        """Return what instruments a FastAPI application."""
        options = self.options(spans=spans) | more
        return lambda app: otel_fastapi.FastAPIInstrumentor.instrument_app(app, **options)

    def flask(self, *, spans: bool) -> Callable[[Flask], object]:
        """Return what instruments a Flask application."""
        return lambda app: otel_flask.FlaskInstrumentor().instrument_app(app, **self.options(spans=spans))
