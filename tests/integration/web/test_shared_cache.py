"""Stored responses in real Redis: workers share them, and an outage is the application's turn to answer."""

from __future__ import annotations

import pytest

from smw.runtime import Runtime
from smw.web import CacheMiddleware, MonitoringMiddleware
from tests.unit.web.driving import call

pytestmark = pytest.mark.service("redis")


class Page:
    """Says how often it was asked, and that its answer is fresh for a minute."""

    def __init__(self, vary: bytes = b""):
        self.asked = 0
        self.vary = vary

    async def __call__(self, _scope, _receive, send):
        self.asked += 1
        headers = [(b"cache-control", b"max-age=60"), *([(b"vary", self.vary)] if self.vary else [])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"page %d" % self.asked})


def worker(url):
    """A runtime as another process would have it: its own memory, the same Redis."""
    cache = {"l2_host": url, "namespace": "web-test", "budget_ms": 5000}  # however slow the machine is
    return Runtime("testing", environ={}, cache=cache)


@pytest.mark.parametrize("vary", [b"", b"accept-language"])
async def test_workers_share_stored_responses_and_invalidations(redis_server, vary):
    """What one worker has stored another one answers; what one drops no other answers any more."""
    page = Page(vary)
    german = [("accept-language", "de")]
    target = f"/shared/{vary.decode()}"
    app = CacheMiddleware(page)
    async with worker(redis_server.url):
        assert (await call(app, target, headers=german)).body == b"page 1"
    async with worker(redis_server.url):
        answer = await call(app, target, headers=german)
        assert (answer.body, "age" in answer.headers) == (b"page 1", True)
        await call(app, target, method="POST")
    async with worker(redis_server.url):
        assert (await call(app, target, headers=german)).body == b"page 3"


async def test_a_dead_redis_is_no_outage(service_factory):
    """Requests are answered before, during and after."""
    server = service_factory("redis")
    app = MonitoringMiddleware(CacheMiddleware(Page()))
    async with worker(server.url):
        assert (await call(app, "/outage")).status == 200
        server.stop()
        for number in range(3):
            assert (await call(app, f"/outage/{number}")).status == 200
        assert (await call(app, "/outage", method="POST")).status == 200
        assert (await call(app, "/health")).status == 200
