"""Signals of the other parts become metrics, and stop to when the monitor is closed."""

from __future__ import annotations

import pytest

from smw._kernel import signals
from smw._kernel.host import Host
from smw.monitor import Monitor
from smw.testing import isolated


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def monitor(host):
    return Monitor(host=host)


@pytest.mark.parametrize(
    ("signal", "key"),
    [
        (signals.BackendDown("redis", "timeout"), ("smw_backend_down_total", "backend", "redis")),
        (signals.CacheUncached("m:f", "unkeyable"), ("smw_cache_uncached_total", "fn", "m:f", "reason", "unkeyable")),
        (
            signals.AccessDenied("m:f", "gdpr.purpose", "Art. 5"),
            ("smw_access_denied_total", "control", "gdpr.purpose", "fn", "m:f"),
        ),
        (
            signals.AccessShadowed("m:f", "gdpr.purpose", "Art. 5"),
            ("smw_access_shadowed_total", "control", "gdpr.purpose", "fn", "m:f"),
        ),
        (signals.TrailFailed("full"), ("smw_audit_failures_total",)),
        (
            signals.RequestBlocked("rate_limit", "too_many"),
            ("smw_requests_blocked_total", "policy", "rate_limit", "reason", "too_many"),
        ),
        (signals.BatchDone("night", 40), ("smw_batch_runs_total", "name", "night")),
    ],
)
def test_each_signal_counts(host, monitor, samples, signal, key):
    """Every signal adds one to its metric."""
    host.bus.send(signal)
    host.bus.send(signal)
    assert samples(monitor)[key] == 2


def test_every_signal_has_a_metric(host, monitor):
    """No signal of the kernel is left uncounted, but for what the pipeline and the cache keep as facts."""
    facts = {signals.Signal, signals.RecordDone, signals.RecordRetried, signals.RecordDead, signals.RecordsLost}
    facts |= {signals.CacheStale, signals.CacheTampered, signals.CacheWriteDead}
    kinds = [getattr(signals, name) for name in signals.__all__]
    kinds = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, signals.Signal)]
    assert [kind for kind in kinds if kind not in facts and not host.bus.wants(kind)] == []


def test_a_backend_is_a_gauge_that_goes_down_and_up(host, monitor, samples):
    """`smw_backend_up` is 0 while the breaker is open and 1 after."""
    host.bus.send(signals.BackendDown("redis", "timeout"))
    assert samples(monitor)["smw_backend_up", "backend", "redis"] == 0
    host.bus.send(signals.BackendUp("redis"))
    assert samples(monitor)["smw_backend_up", "backend", "redis"] == 1


async def test_what_a_stream_keeps_as_facts_shows_once(samples):
    """Records that are counted by the pipeline and told by signal make one sample each: twice is no valid scrape."""
    with isolated() as runtime:

        @runtime.pipeline.stream_process("events")
        async def handle(record: dict[str, int]) -> None: ...

        await runtime.pipeline.run_over("events", [{"a": 1}, {"a": 2}])
        text = runtime.monitor.exposition()[1].decode()
        lines = [line.split(" ")[0] for line in text.splitlines() if line.startswith("smw_stream_records_total{")]
        assert sorted(lines) == sorted(set(lines))
        assert samples(runtime.monitor)["smw_stream_records_total", "outcome", "done", "stream", "events"] == 2


def test_a_closed_monitor_listens_no_more_and_stays_readable(host, monitor, samples):
    """After `close` nothing is counted, and what was counted can still be read."""
    host.bus.send(signals.BatchDone("night", 40))
    monitor.close()
    monitor.close()
    host.bus.send(signals.BatchDone("night", 2))
    assert samples(monitor)["smw_batch_runs_total", "name", "night"] == 1
    assert not host.bus.wants(signals.BatchDone)
