"""The server span of a request: exactly one, continuing the caller's trace, named by the route."""

from __future__ import annotations

import pytest
from opentelemetry import trace as api
from opentelemetry.trace import SpanKind, StatusCode

from smw.monitor import Monitor

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def monitor():
    return Monitor()


def test_a_request_continues_the_callers_trace(monitor, exporter):
    """The span has the caller's trace, method, route and status, and is current in between."""
    opened = monitor.server_span("GET", [(b"traceparent", PARENT)], {"url.path": "/users/1"})
    assert api.get_current_span().is_recording()
    opened.end(route="/users/{user_id}", status=200)
    assert not api.get_current_span().is_recording()
    (finished,) = exporter.get_finished_spans()
    assert (finished.name, finished.kind) == ("GET /users/{user_id}", SpanKind.SERVER)
    assert f"{finished.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{finished.parent.span_id:016x}" == "b7ad6b7169203331"
    assert finished.attributes["http.request.method"] == "GET"
    assert finished.attributes["http.route"] == "/users/{user_id}"
    assert finished.attributes["http.response.status_code"] == 200
    assert finished.attributes["url.path"] == "/users/1"
    assert finished.status.status_code is StatusCode.UNSET


def test_a_server_error_is_an_error_and_a_client_error_is_none(monitor, exporter):
    """From 500 on the span is an error; 404 is the client's."""
    monitor.server_span("GET", []).end(route=None, status=404)
    monitor.server_span("GET", []).end(route="/", status=500)
    monitor.server_span("GET", []).end(route="/", status=500, error=ValueError("x"))
    missing, broken, raised = exporter.get_finished_spans()
    assert missing.name == "GET"
    assert missing.status.status_code is StatusCode.UNSET
    assert broken.status.status_code is StatusCode.ERROR
    assert raised.events[0].name == "exception"


def test_exactly_one_server_span(monitor, exporter):
    """Where another instrumentation has opened the server span, none is added."""
    tracer = api.get_tracer("other")
    with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
        assert monitor.server_span("GET", []) is None
    with tracer.start_as_current_span("work", kind=SpanKind.INTERNAL):
        assert monitor.server_span("GET", []) is not None


def test_an_invented_method_makes_no_new_name(monitor, exporter):
    """Span names stay few whatever clients send."""
    monitor.server_span("BREW", []).end(route="/pot", status=405)
    (finished,) = exporter.get_finished_spans()
    assert finished.name == "HTTP /pot"
    assert finished.attributes["http.request.method"] == "_OTHER"


def test_without_a_provider_there_is_none(monitor, no_provider):
    """Nothing is opened where nobody would see it."""
    assert monitor.server_span("GET", []) is None
