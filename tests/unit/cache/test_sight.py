"""What can be seen of a cache: metrics, spans and log records; and that a hit in memory costs none of them."""

from __future__ import annotations

import json
import logging

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from smw import cache
from smw._kernel.host import Host
from smw.cache.loading.calling import LOADS
from smw.monitor.logs import JsonFormatter
from smw.testing import FakeClock, faults, isolated

SERVERS = {"l2_url": "memory://", "l3_servers": ["memory://"], "namespace": "shop"}


@cache.cached(ttl=60, tags=["price"])
def price(sku: str) -> int:
    """The function that most tests call."""
    return len(sku)


@cache.cached(ttl=60)
async def stock(sku: str) -> int:
    """The same, awaited."""
    return len(sku)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def runtime(clock):
    with isolated(clock=clock, cache=SERVERS) as opened:
        yield opened


@pytest.fixture
def spans(monkeypatch):
    """A configured OpenTelemetry SDK whose spans can be read."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    return kept


def shown(runtime):
    """Return what a scrape shows of the cache."""
    text = runtime.monitor.exposition()[1].decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("smw_cache_")
    }


def forget(runtime):
    """Empty memory, so that the servers are asked."""
    runtime.cache.engine.memory.clear()


def test_requests_and_loads_are_timed_by_level_and_operation(runtime, clock):
    """Latency is a histogram of every request to a server and every run of the function, and of nothing else."""
    price("a")
    before = shown(runtime)
    assert before["smw_cache_latency_seconds_count", "l2", "read"] == 1
    assert before["smw_cache_latency_seconds_count", "l2", "write"] == 1
    assert before["smw_cache_latency_seconds_count", "source", "load"] == 1
    price("a")
    assert shown(runtime) == {
        **before,
        ("smw_cache_requests_total", f"{__name__}:price", "l1", "hit"): 1.0,
    }, "a hit in memory changed more than one counter"
    with faults.slow("l2", 0.02):
        forget(runtime)
        price("a")
    after = shown(runtime)
    assert after["smw_cache_latency_seconds_count", "l2", "read"] == 2
    assert after["smw_cache_latency_seconds_bucket", "0.01", "l2", "read"] == 1
    assert after["smw_cache_latency_seconds_sum", "l2", "read"] == pytest.approx(0.02)


def test_the_age_of_what_servers_answered_with_is_shown(runtime, clock):
    """A value that was stored half a minute ago counts as half a minute old when a server hands it out."""
    price("a")
    clock.advance(30)
    forget(runtime)
    price("a")
    assert shown(runtime)["smw_cache_served_age_seconds_sum", "l2"] == pytest.approx(30)


def test_timeouts_and_breakers_are_shown_by_level(runtime):
    """A level that hangs counts time-outs until its breaker opens, which shows as 1."""
    with faults.hang("l2"):
        for sku in "abcdefgh":
            price(sku)
        now = shown(runtime)
        assert now["smw_cache_timeouts_total", "l2"] == 5
        assert now["smw_cache_errors_total", "timeout", "l2"] == 5
        assert now["smw_cache_breaker_state", "memory", "l2"] == 1
        assert now["smw_cache_timeouts_total", "l3"] == 0
    assert shown(runtime)["smw_cache_breaker_state", "memory", "l2"] == 0


def test_evictions_tell_what_was_full():
    """Entries that went for want of a place and those that went for want of bytes are told apart."""
    with isolated(cache={"l1_size": 10}) as few:
        for number in range(30):
            price(str(number))
        assert shown(few)["smw_cache_evictions_total", "l1", "entries"] >= 20
        assert shown(few)["smw_cache_evictions_total", "l1", "bytes"] == 0
    with isolated(cache={"l1_bytes": 5_000}) as small:
        for number in range(30):
            price(str(number))
        assert shown(small)["smw_cache_evictions_total", "l1", "entries"] == 0
        assert shown(small)["smw_cache_evictions_total", "l1", "bytes"] >= 10


async def test_spans_stand_around_misses_and_requests_alone(runtime, spans):
    """A miss has a span for the function and one for each request to a server; a hit in memory has none."""
    with runtime.monitor.span("request"):
        await stock("a")
    found = spans.get_finished_spans()
    assert sorted({span.name for span in found}) == [
        "cache load", "cache open l2", "cache read l2", "cache read l3", "cache time l2", "cache write l2",
        "cache write l3", "request",
    ]  # fmt: skip
    request = next(span for span in found if span.name == "request")
    assert all(span.parent.span_id == request.context.span_id for span in found if span is not request)
    load = next(span for span in found if span.name == "cache load")
    assert load.attributes["code.function.name"] == f"{__name__}.stock"
    read = next(span for span in found if span.name == "cache read l2")
    assert (read.kind.name, read.attributes["db.operation.name"]) == ("CLIENT", "read")
    spans.clear()
    await stock("a")
    assert spans.get_finished_spans() == ()


def test_a_request_that_fails_has_a_span_that_says_so(runtime, spans):
    """What a server refused is an error of its span, and none of the function's."""
    with faults.down("l2"):
        price("a")
    status = {span.name: span.status.status_code.name for span in spans.get_finished_spans()}
    assert status["cache read l2"] == "ERROR"
    assert status["cache load"] == "UNSET"


def records_of(caplog, profile, clock):
    """Return the lines that the JSON formatter makes of a miss, a hit of a server and a hit in memory."""
    with (
        isolated(profile, clock=clock, service="shop", cache=SERVERS) as runtime,
        caplog.at_level("DEBUG", "smw.cache"),
    ):
        for step in (price, lambda sku: (forget(runtime), price(sku)), price):
            step("secret-sku")
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    return [line for line in lines if line["message"].startswith("cache ")]


def test_records_have_the_five_fields_and_show_arguments_in_development_alone(caplog, clock):
    """Misses and answers of servers are logged with level, key and time to live; hits in memory leave no record."""
    miss, hit = records_of(caplog, "development", clock)
    assert miss | {"timestamp": ""} == {
        "timestamp": "",
        "level": "DEBUG",
        "component": "cache_middleware",
        "message": "cache miss",
        "metadata": {"cache_level": "source", "key": f"{__name__}:price(sku='secret-sku')", "ttl": 60.0},
    }
    assert (hit["message"], hit["metadata"]["cache_level"]) == ("cache hit", "l2")


def test_records_of_production_hold_digests(caplog, clock):
    """In production a key is its digest: no argument is logged."""
    miss, hit = records_of(caplog, "production", clock)
    assert miss["metadata"]["key"] == hit["metadata"]["key"]
    assert miss["metadata"]["key"].startswith("smw:shop:")
    assert "secret-sku" not in json.dumps([miss, hit])


def test_a_drop_is_a_record(caplog, runtime):
    """What is dropped is logged by the digests of its keys and tags."""
    with caplog.at_level("DEBUG", "smw.cache"):
        cache.drop_sync(tags=["price"], keys=[cache.key_for(price, "a")])
    record = caplog.records[-1]
    assert (record.getMessage(), record.cache_level) == ("cache drop", "all")
    assert record.key.count("smw:shop:") == 2


def test_every_record_of_the_cache_names_the_component(caplog, runtime):
    """Warnings of any module of the cache carry the component too."""
    with caplog.at_level("WARNING", "smw.cache"):
        logging.getLogger("smw.cache").warning("anything")
    assert caplog.records[-1].component == "cache_middleware"


def test_who_warms_up_is_told_which_calls_ran(runtime):
    """A context that wants to know hears of each run of a function, and of no hit."""
    token = LOADS.set([])
    try:
        price("a")
        price("a")
        assert LOADS.get() == [f"{__name__}:price"]
    finally:
        LOADS.reset(token)


def test_the_facts_of_a_cache_are_read_at_its_start(caplog):
    """Who keeps the figures of several processes reads those of a cache as soon as it has them, without an error."""
    host, read = Host(), []
    host.facts.watch(lambda: read.extend(host.facts))
    opened = cache.Cache(host=host)
    assert "smw_cache_entries" in {fact.name for fact in read}
    assert not caplog.records
    opened.close()
