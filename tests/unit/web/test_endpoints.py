"""What scrapers and probes get."""

from __future__ import annotations

import json

import pytest

from smw.testing import isolated
from smw.web import MonitoringMiddleware, create_monitoring_middleware
from tests.unit.web.driving import call


async def nothing(_scope, _receive, _send):
    raise AssertionError("the application was asked")


async def test_metrics_in_the_classic_format(runtime):
    """Without a wish it is the text format that everything reads."""
    answer = await call(MonitoringMiddleware(nothing), "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.headers["cache-control"] == "no-store"
    assert b"# TYPE active_connections gauge" in answer.body
    assert int(answer.headers["content-length"]) == len(answer.body)


async def test_metrics_in_openmetrics_when_asked_for(runtime):
    """The scraper's Accept header decides."""
    accept = [("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")]
    answer = await call(MonitoringMiddleware(nothing), "/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


async def test_health_without_checks_passes(runtime):
    """An application without dependencies is well."""
    answer = await call(MonitoringMiddleware(nothing), "/health")
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "pass", "checks": {}})
    assert answer.headers["content-type"] == "application/health+json"
    assert answer.headers["cache-control"] == "no-store"


async def test_a_degraded_service_warns_with_200(runtime):
    """What is not critical does not take the service out."""
    runtime.monitor.check("mirror", lambda: False, critical=False)
    answer = await call(MonitoringMiddleware(nothing), "/health")
    assert (answer.status, json.loads(answer.body)["status"]) == (200, "warn")


async def test_a_failed_dependency_fails_ready_and_never_live(runtime):
    """Restarting a process does not mend its database."""
    runtime.monitor.check("database", lambda: 1 / 0)
    app = MonitoringMiddleware(nothing)
    assert (await call(app, "/health/ready")).status == 503
    assert (await call(app, "/health")).status == 503
    live = await call(app, "/health/live")
    assert (live.status, json.loads(live.body)) == (200, {"status": "pass", "checks": {}})


@pytest.mark.parametrize(("profile", "shown"), [("production", False), ("development", True)])
async def test_reasons_are_shown_outside_production_only(profile, shown):
    """Why a dependency is down is nobody's business on a public port."""
    with isolated(profile, monitor={"logs": "off"}) as runtime:
        runtime.monitor.check("database", lambda: 1 / 0)
        answer = await call(MonitoringMiddleware(nothing), "/health")
    assert ("output" in json.loads(answer.body)["checks"]["database"]) is shown


@pytest.mark.parametrize("target", ["/metrics", "/health", "/health/live", "/health/ready"])
async def test_head_has_the_headers_and_no_body(runtime, target):
    """HEAD says what GET would."""
    answer = await call(MonitoringMiddleware(nothing), target, method="HEAD")
    assert answer.status == 200
    assert answer.body == b""
    assert int(answer.headers["content-length"]) > 0


async def test_other_methods_are_not_allowed(runtime):
    """Endpoints are read, never written."""
    answer = await call(MonitoringMiddleware(nothing), "/metrics", method="POST")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


async def test_below_a_prefix_of_the_server(runtime):
    """The endpoints lie where the application lies."""
    app = MonitoringMiddleware(nothing)
    assert (await call(app, "/api/health", root_path="/api")).status == 200


async def test_a_prefix_for_health(runtime):
    """All three paths move together."""
    app = create_monitoring_middleware(health_path="/api/health/")(nothing)
    for target in ("/api/health", "/api/health/live", "/api/health/ready"):
        assert (await call(app, target)).status == 200
