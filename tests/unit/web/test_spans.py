"""Exactly one server span a request, whoever makes it."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Response
from opentelemetry import trace as api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from smw.web import MonitoringMiddleware, SecurityMiddleware
from smw.web.fastapi import install
from tests.unit.web.driving import call

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NATIVE_OFF = {"tracing": False, "metrics": False, "logs": False}


@pytest.fixture
def exporter(monkeypatch):
    """A configured SDK whose spans can be read."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    return kept


def servers(exporter):
    return [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]


def application(**options):
    app = FastAPI(**options)

    @app.get("/users/{user}")
    async def _user(user: str):
        if user == "broken":
            raise ValueError
        with api.get_tracer("mine").start_as_current_span("work"):
            return user

    app.add_middleware(MonitoringMiddleware)
    return app


async def test_one_span_with_route_status_and_the_callers_trace(runtime, exporter):
    """W3C context comes in, the route names the span, and inner spans are its children."""
    await call(application(telemetry=NATIVE_OFF), "/users/7", headers=[("traceparent", PARENT)])
    (server,) = servers(exporter)
    assert server.name == "GET /users/{user}"
    assert f"{server.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert server.attributes["http.route"] == "/users/{user}"
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["url.path"] == "/users/7"
    (work,) = [span for span in exporter.get_finished_spans() if span.name == "work"]
    assert work.parent.span_id == server.context.span_id


async def test_fastapis_own_span_is_not_doubled(runtime, exporter):
    """Where FastAPI traces natively, there is its span and no second one."""
    await call(application(), "/users/7")
    (server,) = servers(exporter)
    assert server.instrumentation_scope.name == "fastapi"


async def test_fastapis_own_span_is_not_doubled_from_outside_either(runtime, exporter):
    """The same when smw is put around the application."""
    app = FastAPI()

    @app.get("/users/{user}")
    async def _user(user: str):
        return user

    await call(MonitoringMiddleware(app), "/users/7")
    assert [span.instrumentation_scope.name for span in servers(exporter)] == ["fastapi"]


async def homepage(_request):
    return PlainTextResponse("hello")


def starlette(**options):
    telemetry = Middleware(OpenTelemetryMiddleware, **options)
    return Starlette(routes=[Route("/", homepage), Route("/quiet", homepage)], middleware=[telemetry])


@pytest.mark.parametrize("where", ["outside", "above", "below", "raw"])
async def test_starlettes_own_span_is_not_doubled(runtime, exporter, where):
    """Whether smw is around the application, before its telemetry or after it, nobody counts the request twice."""
    app = starlette()
    if where == "outside":
        app = MonitoringMiddleware(app)
    elif where == "above":
        app.add_middleware(MonitoringMiddleware)
    elif where == "below":
        app.user_middleware.append(Middleware(MonitoringMiddleware))
    else:
        app = MonitoringMiddleware(OpenTelemetryMiddleware(PlainTextResponse("hello")))
    await call(app, "/")
    assert [span.instrumentation_scope.name for span in servers(exporter)] == ["starlette"]


@pytest.mark.parametrize("where", ["above", "below"])
async def test_what_starlettes_telemetry_leaves_out_stays_out(runtime, exporter, where):
    """A path excluded there, or a provider that records nothing, is somebody's decision."""
    for options in ({"excluded_urls": "/quiet"}, {"tracer_provider": api.NoOpTracerProvider()}):
        app = starlette(**options)
        app.user_middleware.insert(0 if where == "above" else 1, Middleware(MonitoringMiddleware))
        assert (await call(app, "/quiet")).status == 200
    assert servers(exporter) == []


@pytest.mark.parametrize("make", [starlette, FastAPI])
async def test_a_framework_whose_telemetry_has_nowhere_to_go_leaves_the_span_to_smw(
    runtime, exporter, monkeypatch, make
):
    """Where only smw knows a collector, the idle telemetry of the framework does not keep it from tracing."""
    provider = api.get_tracer_provider()
    monkeypatch.setattr(api, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(runtime.monitor.spans, "tracer", lambda: provider.get_tracer("smw"))
    app = make()
    app.add_middleware(MonitoringMiddleware)
    await call(app, "/")
    assert [span.instrumentation_scope.name for span in servers(exporter)] == ["smw"]


async def test_a_span_of_another_instrumentation_is_not_doubled(runtime, exporter):
    """An outer middleware that has opened the server span keeps it alone."""

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with api.get_tracer("other").start_as_current_span("GET /", kind=SpanKind.SERVER):
        await call(MonitoringMiddleware(app))
    assert [span.instrumentation_scope.name for span in servers(exporter)] == ["other"]


async def test_errors_mark_the_span(runtime, exporter):
    """An exception is recorded and goes on."""
    with pytest.raises(ValueError):
        await call(application(telemetry=NATIVE_OFF), "/users/broken")
    (server,) = servers(exporter)
    assert server.status.status_code is StatusCode.ERROR
    assert server.attributes["http.response.status_code"] == 500


async def test_probes_and_scrapes_make_no_spans(runtime, exporter):
    """They would drown everything else."""
    app = application(telemetry=NATIVE_OFF)
    for target in ("/metrics", "/health", "/health/ready"):
        await call(app, target)
    assert servers(exporter) == []


@pytest.mark.parametrize("header", ["x", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-" + "a" * 9000])
async def test_malformed_trace_context_never_fails_a_request(runtime, exporter, header):
    """What cannot be read starts a new trace."""
    app = application(telemetry=NATIVE_OFF)
    app.add_middleware(SecurityMiddleware)
    assert (await call(app, "/users/7", headers=[("traceparent", header)])).status == 200
    assert servers(exporter)[0].parent is None


async def test_without_a_provider_nothing_is_recorded(runtime, monkeypatch):
    """Then no span is made at all."""
    monkeypatch.setattr(api, "_TRACER_PROVIDER", None)
    seen = []
    app = application()

    @app.get("/span")
    async def _span():
        seen.append(api.get_current_span())

    await call(app, "/span")
    assert seen == [api.INVALID_SPAN]


async def test_a_stored_answer_has_the_name_of_its_route(runtime, exporter):
    """A span of the response cache is found under the same name as the one that filled it."""
    app = FastAPI(telemetry=NATIVE_OFF)

    @app.get("/charts/{week}")
    async def _charts(week: str, response: Response):
        response.headers["cache-control"] = "max-age=60"
        return week

    install(app)
    for _ in range(2):
        await call(app, "/charts/12")
    assert [span.name for span in servers(exporter)] == ["GET /charts/{week}"] * 2
    assert [span.attributes["http.route"] for span in servers(exporter)] == ["/charts/{week}"] * 2
