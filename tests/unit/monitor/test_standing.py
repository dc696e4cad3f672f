"""How the open parts tell the health report that they stand."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref

import pytest

from smw import cache
from smw._kernel.host import Host
from smw._kernel.standing import Standing
from smw.cache import Cache
from smw.monitor.health import Health
from smw.testing import isolated
from smw.web import MonitoringMiddleware
from tests.unit.web.driving import call

NOBODY = "redis://127.0.0.1:1/0"


async def checks(runtime) -> dict[str, dict[str, str]]:
    return (await runtime.monitor.health.report(details=True))["checks"]


async def test_levels_that_are_well_are_named():
    """Memory with its entries, and each level of servers; before the cache is used there is nothing to tell."""
    with isolated(cache={"l2_host": NOBODY, "l3_servers": "127.0.0.1:1,127.0.0.1:2"}) as runtime:
        health = runtime.monitor.health
        assert await checks(runtime) == {}
        runtime.cache  # noqa: B018 - opens it
        assert await checks(runtime) == {
            "cache.l1": {"status": "pass", "output": "entries: 0"},
            "cache.l2": {"status": "pass", "output": "breaker: closed, drops owed: 0"},
            "cache.l3": {"status": "pass", "output": "breakers open: 0 of 2, drops owed: 0"},
        }
    assert list((await health.report())["checks"]) == ["shutdown"]


async def test_a_level_whose_breaker_is_open_warns_and_tells_what_it_is_owed():
    """A drop that Redis did not hear is counted; the service goes on, so the answer is 200."""
    with isolated(cache={"l2_host": NOBODY}) as runtime:
        await cache.drop(tags=["user:7", "user:8"])
        for level in runtime.cache.engine.remote.servers:
            level.breaker.failed("refused", permanent=True)
        found = await checks(runtime)
        assert found["cache.l2"] == {"status": "warn", "output": "breaker: open, drops owed: 2"}
        assert found["backend:redis"]["status"] == "warn"
        answer = await call(MonitoringMiddleware(_nothing), "/health/ready")
        assert (answer.status, json.loads(answer.body)["status"]) == (200, "warn")


@pytest.mark.parametrize("name", ["cache.l2", "backend:redis"])
async def test_a_check_by_a_part_s_name_hides_nothing_of_it(name):
    """Of a part's standing and a check of the same name the worse is shown, whichever of them that is."""
    with isolated(cache={"l2_host": NOBODY}) as runtime:
        for level in runtime.cache.engine.remote.servers:
            level.breaker.failed("refused", permanent=True)
        before = await checks(runtime)
        runtime.monitor.check(name, lambda: True)
        assert await checks(runtime) == before
        runtime.monitor.check(name, lambda: False)
        assert (await checks(runtime))[name] == {"status": "fail", "output": "answered False"}


async def _nothing(_scope, _receive, _send):
    raise AssertionError("the application was asked")


@pytest.mark.parametrize(("profile", "is_shown"), [("development", True), ("production", False)])
async def test_figures_are_for_those_who_may_see_details(profile, is_shown):
    """In production a report says that a level is well, and no more."""
    with isolated(profile) as runtime:
        runtime.cache  # noqa: B018 - opens it
        answer = await call(MonitoringMiddleware(_nothing), "/health")
        assert ("output" in json.loads(answer.body)["checks"]["cache.l1"]) is is_shown


async def test_the_audit_log_tells_whether_it_can_be_written(monkeypatch):
    """Once it is open."""
    with isolated() as runtime:
        trail = runtime.security.trail
        trail.put({"kind": "test"})
        assert (await checks(runtime))["audit"] == {"status": "pass", "output": "records: 2"}
        monkeypatch.setattr(trail._writer, "failure", "No space left on device")
        assert (await checks(runtime))["audit"] == {"status": "warn", "output": "No space left on device"}
        monkeypatch.undo()


async def test_streams_that_are_served_are_named():
    """With what is in flight; once serving has ended they are told no more."""
    with isolated() as runtime:
        seen, stop = [], asyncio.Event()

        @runtime.pipeline.stream_process("orders", source="memory")
        async def handle(record):
            seen.append(await checks(runtime))
            stop.set()

        await runtime.pipeline.emit("orders", {"id": 1})
        await runtime.pipeline.serve("orders", stop=stop)
        assert seen[0]["stream.orders"] == {"status": "pass", "output": "in flight: 1, to do: 1"}
        assert "stream.orders" not in await checks(runtime)


async def test_a_part_that_fails_to_tell_hides_no_other(caplog):
    """Its mistake is logged."""
    host = Host()
    host.standings.add(lambda: 1 / 0)
    end = host.standings.add(lambda: [Standing("other", is_well=True, seen="at redis://u:secret@host/0")])
    health = Health(host)
    report = await health.report(details=True)
    assert report["checks"] == {"other": {"status": "pass", "output": "at redis://***@host/0"}}
    assert "could not tell" in caplog.text
    end()
    assert (await health.report())["checks"] == {}
    health.close()


def test_telling_keeps_no_cache_alive():
    """One that was never closed is collected, although its host lives on."""
    host = Host()
    gone = weakref.ref(Cache(host=host))
    gc.collect()
    assert gone() is None
    assert list(host.standings) == []
