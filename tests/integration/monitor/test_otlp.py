"""Spans over the wire: a receiver that speaks OTLP/HTTP gets them, whoever names it."""

from __future__ import annotations

import gzip
import http.server
import logging
import threading

import pytest
from opentelemetry import trace as api
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import smw
from smw._kernel.host import Host
from smw.errors import MissingExtra
from smw.monitor import Monitor, otel, trace


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes what the OTLP/HTTP specification allows and keeps the parsed requests."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/traces":
            self.send_error(404)
            return
        if self.headers["Content-Type"] != "application/x-protobuf":
            self.send_error(415)
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.kept.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args):
        pass


@pytest.fixture
def receiver():
    """A strict OTLP/HTTP receiver on loopback."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.kept = []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_provider(monkeypatch):
    """Nobody else has configured OpenTelemetry."""
    monkeypatch.setattr(api, "_TRACER_PROVIDER", None)


def spans(receiver):
    return [
        (resource.resource, found)
        for request in receiver.kept
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for found in scope.spans
    ]


@pytest.mark.parametrize("path", ["", "/", "/v1/traces"])
@pytest.mark.parametrize("setting", ["jaeger_endpoint", "otlp_endpoint"])
def test_spans_arrive_with_the_name_of_the_service(receiver, setting, path):
    """What was recorded is at the collector once the runtime has closed, whichever way the endpoint is written."""
    if setting == "otlp_endpoint" and path == "/v1/traces":
        path = ""
    with smw.Runtime("testing", service="shop", monitor={setting: receiver.url + path}, environ={}):

        @trace("outer", kind="client", attributes={"n": 1})
        def outer():
            inner()

        @trace("inner")
        def inner():
            raise ValueError

        with pytest.raises(ValueError):
            outer()
    by_name = {found.name: (resource, found) for resource, found in spans(receiver)}
    resource, sent = by_name["outer"]
    assert ("service.name", "shop") in {(a.key, a.value.string_value) for a in resource.attributes}
    assert ("n", 1) in {(a.key, a.value.int_value) for a in sent.attributes}
    assert by_name["inner"][1].parent_span_id == sent.span_id
    assert by_name["inner"][1].events[0].name == "exception"
    assert by_name["inner"][1].status.code == 2


def test_the_endpoint_comes_from_the_environment(receiver):
    """JAEGER_ENDPOINT and OpenTelemetry's own variable both switch export on."""
    for name in ("JAEGER_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        with smw.Runtime("testing", environ={name: receiver.url}):
            trace(name)(lambda: None)()
    assert {found.name for _, found in spans(receiver)} == {"JAEGER_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}


def test_two_runtimes_export_apart(receiver):
    """Each runtime has a provider of its own; none becomes the process's."""
    one = Monitor(jaeger_endpoint=receiver.url, host=Host(service="one"))
    two = Monitor(jaeger_endpoint=receiver.url, host=Host(service="two"))
    one.trace("a")(lambda: None)()
    two.trace("b")(lambda: None)()
    one.close()
    two.close()
    services = {
        found.name: next(a.value.string_value for a in resource.attributes if a.key == "service.name")
        for resource, found in spans(receiver)
    }
    assert services == {"a": "one", "b": "two"}
    assert otel.global_provider() is None


def test_a_configured_provider_wins(receiver, monkeypatch):
    """Where the application has configured an SDK, its provider gets the spans, and is not shut down."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    monitor = Monitor(jaeger_endpoint=receiver.url)
    call = monitor.trace("a")(lambda: None)
    call()
    monitor.close()
    call()
    assert len(kept.get_finished_spans()) == 2
    assert receiver.kept == []


def test_without_the_extra_a_setting_is_an_error_and_the_platforms_variable_a_warning(monkeypatch, caplog):
    """Who asks for spans in the settings is told what to install; a variable of the platform stops no service."""
    monkeypatch.setattr(otel, "has_sdk", lambda: False)
    with pytest.raises(MissingExtra, match=r"smw\[otel\]"):
        Monitor(jaeger_endpoint="http://127.0.0.1:4318")
    with caplog.at_level(logging.WARNING):
        monitor = Monitor(otlp_endpoint="http://127.0.0.1:4318")
    assert monitor.trace("a")(lambda: 1)() == 1
    assert "no spans are exported" in caplog.text
