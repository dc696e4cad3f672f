"""The HTTP metrics: exact under threads, bounded whatever clients send, cheap to update."""

from __future__ import annotations

import logging
import threading

import pytest

from smw.monitor import Monitor
from smw.monitor.cells import Losses
from smw.monitor.http import HttpMeter
from smw.monitor.instruments import HTTP_DURATION

ROUTE = ("method", "GET", "route", "/users/{user_id}", "status", "200")


def requests(samples):
    return {key: value for key, value in samples.items() if key[0] == "http_requests_total"}


def test_one_request_shows_in_all_its_metrics(samples):
    """A finished request counts in requests, duration and size, and its connection is closed again."""
    monitor = Monitor()
    monitor.http.started()
    assert samples(monitor)[("active_connections",)] == 1
    monitor.http.finished("GET", "/users/{user_id}", 200, 0.03, 120)
    seen = samples(monitor)
    assert seen["http_requests_total", *ROUTE] == 1
    assert seen["http_request_duration_seconds_count", *ROUTE] == 1
    assert seen["http_request_duration_seconds_sum", *ROUTE] == pytest.approx(0.03)
    assert seen["http_request_size_bytes_sum", "method", "GET", "route", "/users/{user_id}"] == 120
    assert seen["http_request_size_bytes_count", "method", "GET", "route", "/users/{user_id}"] == 1
    assert seen[("active_connections",)] == 0


def test_buckets_are_cumulative_and_a_bound_belongs_to_its_bucket(samples):
    """A duration equal to a bound counts in that bucket and in all above, and one beyond the last only in +Inf."""
    monitor = Monitor()
    monitor.http.finished("GET", "/", 200, 0.05)
    monitor.http.finished("GET", "/", 200, 11.0)
    seen = samples(monitor)

    def bucket(bound):
        return seen["http_request_duration_seconds_bucket", "le", bound, "method", "GET", "route", "/", "status", "200"]

    assert [bucket(bound) for bound in ("0.025", "0.05", "10.0", "+Inf")] == [0, 1, 1, 2]


def test_the_buckets_are_the_documented_ones():
    """The bounds of the duration histogram are a promise to dashboards."""
    assert HTTP_DURATION.buckets == (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


def test_sizes_are_per_method_and_route_over_all_statuses(samples):
    """The size summary adds up the statuses of a route."""
    monitor = Monitor()
    monitor.http.finished("POST", "/up", 200, 0.1, 10)
    monitor.http.finished("POST", "/up", 413, 0.1, 30)
    seen = samples(monitor)
    assert seen["http_request_size_bytes_sum", "method", "POST", "route", "/up"] == 40
    assert seen["http_request_size_bytes_count", "method", "POST", "route", "/up"] == 2


def test_what_clients_invent_makes_no_series(samples):
    """A million invented methods and paths cost two series and no memory."""
    monitor = Monitor()
    for number in range(3000):
        monitor.http.finished(f"BREW{number}", None, 404, 0.001)
        monitor.http.finished("GET", None, 404, 0.001)
    assert requests(samples(monitor)) == {
        ("http_requests_total", "method", "other", "route", "unmatched", "status", "404"): 3000,
        ("http_requests_total", "method", "GET", "route", "unmatched", "status", "404"): 3000,
    }
    assert len(monitor.http._rows) == 2


def test_beyond_the_limit_one_series_a_status_takes_the_rest_and_one_warning_says_so(samples, caplog):
    """Series are capped: later routes share an overflow series, nothing is lost, and it is said once."""
    monitor = Monitor(series_max=3)
    with caplog.at_level(logging.WARNING, "smw.monitor"):
        for number in range(50):
            monitor.http.finished("GET", f"/r{number}", 200, 0.001)
    seen = requests(samples(monitor))
    assert sum(seen.values()) == 50
    assert seen["http_requests_total", "method", "other", "route", "overflow", "status", "200"] == 47
    assert len(seen) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "metric http_requests_total has reached 3 series; further routes are counted as 'overflow'"
    ]
    assert samples(monitor)["smw_telemetry_dropped_total", "kind", "series"] == 47


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), -1.0])
def test_an_impossible_duration_still_counts_the_request(samples, duration):
    """A broken duration counts as 0 s: the request happened."""
    monitor = Monitor()
    monitor.http.finished("GET", "/", 200, duration)
    seen = samples(monitor)
    labels = ("method", "GET", "route", "/", "status", "200")
    assert seen["http_requests_total", *labels] == 1
    assert seen["http_request_duration_seconds_sum", *labels] == 0


def test_no_request_is_lost_between_threads(samples):
    """Eight threads that count at the same time lose not one request."""
    meter = HttpMeter(limit=10, losses=Losses())

    def work():
        for _ in range(5000):
            meter.started()
            meter.finished("GET", "/", 200, 0.001, 1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    readings = {reading.instrument.name: reading.rows for reading in meter.read()}
    assert readings["http_requests_total"][0][1] == [40_000]
    assert readings["http_request_size_bytes"][0][1] == [40_000, 40_000]
    assert readings["active_connections"][0][1] == [0]


def test_a_websocket_is_a_connection_and_no_request(samples):
    """`started` and `ended` count a WebSocket among the connections only."""
    monitor = Monitor()
    monitor.http.started()
    assert samples(monitor)[("active_connections",)] == 1
    monitor.http.ended()
    seen = samples(monitor)
    assert seen[("active_connections",)] == 0
    assert requests(seen) == {}


def test_an_update_inside_an_update_does_not_deadlock():
    """A garbage collection inside the lock may end a generator that counts: the lock is re-entrant."""
    meter = HttpMeter(limit=10, losses=Losses())
    with meter._lock:
        meter.started()
        meter.finished("GET", "/", 200, 0.1)
    assert next(iter(meter.read())).rows[0][1] == [1]
