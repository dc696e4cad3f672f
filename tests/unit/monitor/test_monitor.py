"""The monitor as a whole: settings, life, forks, and the import budget."""

from __future__ import annotations

import asyncio
import json
import os
import threading

import pytest

import smw
from smw._kernel.host import Host
from smw._kernel.signals import BackendDown
from smw.errors import ConfigError
from smw.monitor import Monitor, track_business_metric
from smw.settings import MonitorSettings


def test_it_takes_a_model_a_mapping_or_options():
    """Settings come as a model, a mapping or single options, and options win."""
    assert Monitor(MonitorSettings(series_max=5)).settings.series_max == 5
    assert Monitor({"series_max": 5}).settings.series_max == 5
    assert Monitor({"series_max": 5}, series_max=6).settings.series_max == 6


def test_an_unknown_setting_names_the_nearest():
    """A typo is one error with the right name."""
    with pytest.raises(ConfigError, match="prometheus_port"):
        Monitor(prometeus_port=9100)


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://x", "http://", "http://x:99999", "http://x:a"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint):
    """A wrong endpoint is an error that names the setting, not a silent loss of spans."""
    with pytest.raises(ConfigError, match="jaeger_endpoint"):
        Monitor(jaeger_endpoint=endpoint)


@pytest.mark.parametrize("endpoint", ["http://jaeger:14268", "http://jaeger/api/traces"])
def test_the_thrift_endpoint_of_jaeger_is_refused_with_the_right_one(endpoint):
    """Jaeger's old endpoint does not speak OTLP; the error says which does."""
    with pytest.raises(ConfigError, match="4318"):
        Monitor(jaeger_endpoint=endpoint)


async def test_closing_twice_is_closing_once(unused_port):
    """`close` and `aclose` may be called in any number and order."""
    monitor = Monitor(prometheus_port=unused_port, logs="json").open()
    await monitor.aclose()
    await monitor.aclose()
    monitor.close()
    assert monitor.exposition()[1]


async def test_it_is_a_context_manager(unused_port):
    """`with` and `async with` open and close it."""
    async with Monitor(prometheus_port=unused_port) as monitor:
        assert monitor._listener is not None
    assert monitor._listener is None


def test_the_runtime_opens_and_closes_it(unused_port):
    """A runtime with a port in its settings listens from its opening to its end."""
    with smw.testing.isolated(monitor={"prometheus_port": unused_port}) as runtime:
        monitor = runtime.monitor
        assert monitor._listener._server is not None
    assert monitor._listener is None


def test_signals_from_before_anybody_asked_for_the_monitor_count(samples):
    """The monitor opens with the runtime: what another part signals first is not missed."""
    with smw.testing.isolated() as runtime:
        runtime.host.bus.send(BackendDown("redis", "timeout"))
        assert samples(runtime.monitor)["smw_backend_up", "backend", "redis"] == 0


def test_a_wrong_endpoint_keeps_the_runtime_from_opening():
    """A setting that is wrong is an error on opening, every time, never a runtime half open."""
    runtime = smw.Runtime("testing", monitor={"jaeger_endpoint": "collector"}, environ={})
    for _ in range(2):
        with pytest.raises(ConfigError, match="jaeger_endpoint"):
            runtime.open()
        assert not runtime.is_open


def child_says(work):
    """Fork, run `work` in the child, and return what it returned."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return json.loads(said)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_counts_from_zero_and_never_waits_for_a_lock(unused_port, samples):
    """In a child the figures start at 0 even if a thread of the parent held every lock; known series stay."""
    host = Host()
    monitor = Monitor(host=host, prometheus_port=unused_port).open()

    @monitor.track_business_metric("sold")
    def sell():
        pass

    sell()
    monitor.http.started()
    monitor.http.finished("GET", "/", 200, 0.1)
    host.bus.send(BackendDown("redis", "timeout"))
    samples(monitor)
    held, release = threading.Event(), threading.Event()

    def hold():
        total = monitor.business._totals["sold"]
        with monitor.http._lock, monitor.business._lock, total._lock, monitor._lock, monitor._processes._own._lock:
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)

    def work():
        sell()
        monitor.http.started()
        seen = samples(monitor)
        report = asyncio.run(monitor.health.report())
        return [
            seen["business_sold_total", "outcome", "success"],
            seen["business_sold_total", "outcome", "error"],
            seen.get(("http_requests_total", "method", "GET", "route", "/", "status", "200")),
            seen[("active_connections",)],
            seen.get(("smw_backend_up", "backend", "redis")),
            seen[("memory_usage_bytes",)] > 0,
            monitor._listener is None,
            report["status"],
        ]

    said = child_says(work)
    release.set()
    holder.join()
    monitor.close()
    assert said == [1, 0, None, 1, None, True, True, "pass"]
    assert samples(monitor)["business_sold_total", "outcome", "success"] == 1


def test_functions_follow_the_runtime(samples):
    """A decorated function counts in whatever runtime is current when it is called."""

    @track_business_metric("sold")
    def sell():
        pass

    key = ("business_sold_total", "outcome", "success")
    with smw.testing.isolated() as outer:
        sell()
        with smw.testing.isolated() as inner:
            sell()
            sell()
            assert samples(inner.monitor)[key] == 2
        sell()
        assert samples(outer.monitor)[key] == 2
