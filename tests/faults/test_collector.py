"""A collector of spans that hangs or is gone: calls never wait for it, and closing keeps its bound."""

from __future__ import annotations

import logging
import socket
import time

import pytest
from opentelemetry import trace as api

from smw.monitor import Monitor


@pytest.fixture(autouse=True)
def no_provider(monkeypatch):
    """Nobody else has configured OpenTelemetry."""
    monkeypatch.setattr(api, "_TRACER_PROVIDER", None)


@pytest.mark.timed
@pytest.mark.parametrize("kind", ["hangs", "refuses"])
def test_a_collector_that_is_away_costs_calls_nothing_and_closing_two_seconds(kind, caplog):
    """Calls never wait for the collector, and closing gives up after its bound."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        if kind == "hangs":
            deaf.listen(8)
        monitor = Monitor(jaeger_endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        call = monitor.trace("a")(lambda: 1)
        with caplog.at_level(logging.CRITICAL, "opentelemetry"):
            started = time.monotonic()
            for _ in range(3000):
                assert call() == 1
            called_s = time.monotonic() - started
            started = time.monotonic()
            monitor.close()
            closed_s = time.monotonic() - started
    assert called_s < 3.0
    assert closed_s < 3.0
