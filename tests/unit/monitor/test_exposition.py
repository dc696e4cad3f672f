"""What scrapers get: valid in both formats whatever the labels hold, from one registry per monitor."""

from __future__ import annotations

import logging
import threading
import urllib.request

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from smw._kernel.facts import Fact
from smw._kernel.host import Host
from smw.monitor import Monitor, exposition
from smw.monitor.instruments import DECLARED

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
NAMES = (
    "http_requests_total",
    "http_request_duration_seconds",
    "http_request_size_bytes",
    "active_connections",
    "memory_usage_bytes",
    "cpu_usage_percent",
    "smw_cache_requests_total",
)


def filled():
    host = Host()
    host.facts.add(
        lambda: [
            Fact("smw_cache_requests_total", "counter", "x", (("fn", "m:f"), ("level", "l1"), ("outcome", "hit")), 5)
        ]
    )
    monitor = Monitor(host=host)
    monitor.http.finished("GET", "/a", 200, 0.2, 3)
    return monitor


def test_classic_by_default_openmetrics_when_asked_for():
    """The Accept header decides the format, and each parses with Prometheus's own parser to the same figures."""
    monitor = filled()
    classic_type, classic = monitor.exposition("text/plain")
    open_type, openmetrics = monitor.exposition(OPENMETRICS)
    assert classic_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text")
    assert openmetrics.endswith(b"# EOF\n")

    def figures(families):
        skip = ("memory_usage_bytes", "cpu_usage_percent")
        return {
            (s.name, tuple(sorted(s.labels.items()))): s.value
            for f in families
            for s in f.samples
            if s.name not in skip
        }

    assert figures(parse_classic(classic.decode())) == figures(parse_openmetrics(openmetrics.decode()))


@pytest.mark.parametrize("accept", ["", "*/*", "garbage;;;=", "application/json", "application/openmetrics-text"])
def test_any_accept_header_gets_an_answer(accept):
    """Whatever a scraper accepts, it gets a valid exposition."""
    content_type, text = filled().exposition(accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_classic
    assert len(list(parse(text.decode()))) > 5


def test_every_promised_name_is_there_before_the_first_request():
    """Dashboards find every declared metric from the first scrape on."""
    families = {family.name for family in parse_classic(Monitor().exposition()[1].decode())}
    assert {name.removesuffix("_total") for name in NAMES} <= families
    assert {instrument.name.removesuffix("_total") for instrument in DECLARED} <= families


def test_every_name_is_declared_once():
    """No two instruments share a name."""
    names = [instrument.name for instrument in DECLARED]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "value",
    ['a"b', "a\nb", "a\\b", "a\\", "\ud800", "ü" * 300, "x" * 10_000, "\x00\x1b", "\u202e", '"} 1\nevil_total{x="'],
)
@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_hostile_label_values_stay_values(value, accept):
    """Quotes, newlines, surrogates and 10 KB in a label never break or extend the exposition."""
    host = Host()
    host.facts.add(lambda: [Fact("smw_x_total", "counter", "x", (("fn", value),), 1)])
    monitor = Monitor(host=host)
    monitor.http.finished("GET", value, 200, 0.1)
    content_type, text = monitor.exposition(accept)
    families = list((parse_openmetrics if "openmetrics" in content_type else parse_classic)(text.decode()))
    found = [s.labels["route"] for f in families for s in f.samples if s.name == "http_requests_total"]
    assert len(found) == 1
    assert len(found[0].encode()) <= 256
    assert not any(family.name.startswith("evil") for family in families)


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_a_label_in_both_formats(value):
    """Whatever text a label holds, both formats carry its first 256 bytes unchanged."""
    monitor = Monitor()
    monitor.http.finished("GET", value, 200, 0.1)
    expected = value.encode("utf-8", "replace")[:256].decode("utf-8", "ignore")
    for accept, parse in (("", parse_classic), (OPENMETRICS, parse_openmetrics)):
        families = parse(monitor.exposition(accept)[1].decode())
        found = [s.labels["route"] for f in families for s in f.samples if s.name == "http_requests_total"]
        assert found == [expected]


def test_facts_of_other_parts_are_shown_and_added_up(samples):
    """Facts appear under their own names; two sources with the same labels are summed, not doubled lines."""
    host = Host()
    labels = (("fn", "m:f"), ("level", "l1"), ("outcome", "hit"))
    host.facts.add(lambda: [Fact("smw_cache_requests_total", "counter", "x", labels, 5)])
    host.facts.add(lambda: [Fact("smw_cache_requests_total", "counter", "x", labels, 2)])
    host.facts.add(lambda: [Fact("smw_cache_entries", "gauge", "Entries.", (), 9)])
    seen = samples(Monitor(host=host))
    assert seen["smw_cache_requests_total", "fn", "m:f", "level", "l1", "outcome", "hit"] == 7
    assert seen[("smw_cache_entries",)] == 9


def test_a_source_that_fails_and_a_name_that_is_none_do_not_break_the_scrape(samples, caplog):
    """One part's mistake hides its own figures at most."""
    host = Host()
    host.facts.add(lambda: 1 / 0)
    host.facts.add(lambda: [Fact("", "counter", "x", (), 1)])
    monitor = Monitor(host=host)
    monitor.http.finished("GET", "/", 200, 0.1)
    with caplog.at_level(logging.ERROR):
        seen = samples(monitor)
    assert seen["http_requests_total", "method", "GET", "route", "/", "status", "200"] == 1
    assert {record.name for record in caplog.records} == {"smw.facts", "smw.monitor"}


def test_own_metrics_share_the_endpoint():
    """A metric that is registered with the monitor's registry is exposed with the rest."""
    monitor = Monitor()
    prometheus_client.Counter("sold", "Sold.", registry=monitor.registry).inc(3)
    assert b"\nsold_total 3.0\n" in monitor.exposition()[1]


def test_monitors_share_nothing(samples):
    """Two monitors in a process count apart, and neither touches the global registry."""
    one, two = Monitor(), Monitor()
    one.http.finished("GET", "/", 200, 0.1)
    key = ("http_requests_total", "method", "GET", "route", "/", "status", "200")
    assert key in samples(one)
    assert key not in samples(two)
    assert not [f for f in prometheus_client.REGISTRY.collect() if f.name.startswith(("http_", "smw_"))]


def test_the_package_function_shows_the_current_runtime(runtime):
    """`monitor.exposition()` is that of the current runtime's monitor."""
    runtime.monitor.http.finished("GET", "/here", 200, 0.1)
    assert b'route="/here"' in exposition()[1]


def test_scraping_while_counting_is_consistent():
    """A scrape in the middle of traffic never shows a histogram that disagrees with its count."""
    monitor = Monitor()
    stop = threading.Event()

    def work():
        while not stop.is_set():
            monitor.http.finished("GET", "/", 200, 1.0)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            values = {}
            for reading in monitor.http.read():
                values[reading.instrument.name] = reading.rows
            for _, figures in values["http_request_duration_seconds"]:
                assert figures[-1] == sum(figures[:-1]) == values["http_requests_total"][0][1][0]
    finally:
        stop.set()
        thread.join()


def test_the_own_listener_serves_and_stops(unused_port):
    """`prometheus_port` opens a listener on loopback, and closing frees the port."""
    with Monitor(prometheus_port=unused_port) as monitor:
        monitor.http.finished("GET", "/own", 200, 0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{unused_port}/metrics", timeout=5) as answer:
            assert b'route="/own"' in answer.read()
    with Monitor(prometheus_port=unused_port) as again:
        assert again._listener._server is not None


def test_a_taken_port_is_one_warning_and_no_failed_start(unused_port, caplog):
    """Prometheus itself listens on 9090: a port that is taken never keeps the service from starting."""
    with Monitor(prometheus_port=unused_port), caplog.at_level(logging.WARNING, "smw.monitor"):
        second = Monitor(prometheus_port=unused_port).open()
        second.open()
    assert len(caplog.records) == 1
    assert f"127.0.0.1:{unused_port}" in caplog.text
    second.close()
    second.close()
