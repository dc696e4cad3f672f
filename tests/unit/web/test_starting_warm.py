"""An application that starts warm takes its first request when memory is filled, and is not ready before."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

from smw import cache
from smw.cache.warming.warmup import WarmUp
from smw.testing import FakeClock, isolated
from smw.web import MonitoringMiddleware
from tests.contract.worlds import environ_of
from tests.unit.web.driving import call, lifespan

SETTINGS = {"l2_url": "memory://starting-warm", "namespace": "shop", "warm": "fleet"}
LOADS: list[str] = []


@cache.cached(ttl=60)
def price(sku: str) -> int:
    LOADS.append(sku)
    return len(sku)


async def shown(_scope, _receive, send):
    """Answer with who has answered the price."""
    price("tea")
    hits = json.dumps(cache.info(price).hits).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": hits})


@pytest.fixture
def warm():
    """A runtime of a process that has just started, beside one that has been asked for the price of tea."""
    clock = FakeClock()
    with isolated(clock=clock, cache=SETTINGS) as other:
        price("tea"), price("tea")
        other.cache._warmth._heat.sample()
        store = other.cache.engine.remote.servers[0].store
        other.cache.close()
        LOADS.clear()
        with isolated(clock=clock, cache=SETTINGS) as runtime:
            yield runtime
        assert store.counters
        assert LOADS == []


async def test_startup_waits_for_it(warm):
    """What the application itself does when it starts finds memory filled already, and so does the first request."""
    seen = []

    @asynccontextmanager
    async def life(_app):
        seen.append(cache.info(price).warmed)
        seen.append(price("tea"))
        seen.append(cache.info(price).hits)
        yield

    app = FastAPI(lifespan=life)
    app.add_middleware(MonitoringMiddleware)
    assert (await lifespan(app))[0] == "lifespan.startup.complete"
    assert seen == [1, 3, {"l1": 1, "l2": 0}]


async def test_without_a_lifespan_the_first_requests_wait_for_it(warm, monkeypatch):
    """However many come at once, none of them is answered before, and it is done once."""
    runs, run = [], WarmUp.run

    async def slow(self, mode):
        runs.append(mode)
        for _ in range(5):
            await asyncio.sleep(0)
        return await run(self, mode)

    monkeypatch.setattr(WarmUp, "run", slow)
    app = MonitoringMiddleware(shown)
    answers = await asyncio.gather(*(call(app) for _ in range(3)))
    assert sorted(json.loads(answer.body)["l1"] for answer in answers) == [1, 2, 3]
    assert runs == ["async"]
    assert json.loads((await call(app)).body) == {"l1": 4, "l2": 0}


async def test_meanwhile_it_is_not_ready(warm, monkeypatch):
    """The readiness probe says so, and why; that the process is alive is another matter."""
    told, run = [], WarmUp.run
    health = warm.monitor.health

    async def asked(self, mode):
        told.append(await health.report("ready", details=True))
        told.append(await health.report("live"))
        return await run(self, mode)

    monkeypatch.setattr(WarmUp, "run", asked)
    await warm.aprepare()
    assert [report["status"] for report in told] == ["fail", "pass"]
    assert told[0]["checks"]["cache.warm-up"]["output"].startswith("memory is being filled")
    assert (await health.report("ready"))["status"] == "pass"


def test_the_first_request_of_each_wsgi_worker_waits_for_it(warm):
    """Servers say nothing of their start: it is with the first request, and after a fork with that of the child."""

    def app(_environ, start_response):
        price("tea")
        start_response("200 OK", [])
        return [str(cache.info(price).hits).encode()]

    wrapped = MonitoringMiddleware(app)
    for number in (1, 2):
        assert b"".join(wrapped(environ_of("GET", "/"), lambda *_: None)) == b"{'l1': %d, 'l2': 0}" % number
        assert cache.info(price).warmed == number
        warm.cache.engine.memory._forked()
        warm.cache._warmth._forked()
        wrapped._wsgi.__self__.after_fork()
