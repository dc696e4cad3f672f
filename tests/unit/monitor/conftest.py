"""What the tests of the monitor share: a runtime of their own, an SDK that keeps its spans, parsed metrics."""

from __future__ import annotations

import socket

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from smw.testing import FakeClock, isolated


@pytest.fixture
def clock():
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def runtime(clock):
    """A runtime of its own, which is the current one."""
    with isolated(clock=clock) as opened:
        yield opened


@pytest.fixture
def exporter(monkeypatch):
    """A configured OpenTelemetry SDK whose spans can be read."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    return kept


@pytest.fixture
def no_provider(monkeypatch):
    """OpenTelemetry as it is when nobody has configured it."""
    monkeypatch.setattr(api, "_TRACER_PROVIDER", None)


@pytest.fixture
def samples():
    """Return a function from a monitor to its samples: {(name, label, value, ...): number}."""

    def read(monitor):
        text = monitor.exposition()[1].decode()
        return {
            (sample.name, *(item for pair in sorted(sample.labels.items()) for item in pair)): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    return read


@pytest.fixture
def unused_port():
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
