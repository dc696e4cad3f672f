"""Health: answers in time whatever hangs, live asks nobody, a backend that is away is a warning."""

from __future__ import annotations

import asyncio
import threading

import pytest

from smw._kernel.host import Host
from smw._kernel.signals import BackendDown, BackendUp
from smw.errors import ConfigError
from smw.monitor import Monitor, check


@pytest.fixture
def host(clock):
    return Host(clock=clock)


@pytest.fixture
def health(host):
    return Monitor(host=host).health


async def test_nothing_to_check_passes(health):
    """A service without checks is well."""
    assert await health.report() == {"status": "pass", "checks": {}}


@pytest.mark.parametrize(
    ("answer", "critical", "expected"),
    [
        (True, True, "pass"),
        (None, True, "pass"),
        (False, True, "fail"),
        (False, False, "warn"),
        (ConnectionError("x"), True, "fail"),
        (ConnectionError("x"), False, "warn"),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_what_a_probe_says(health, kind, answer, critical, expected):
    """False or an exception fails, anything else passes; a check that is not critical only warns."""

    def sync():
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def coroutine():
        return sync()

    health.add("db", sync if kind == "sync" else coroutine, critical=critical)
    assert await health.report("ready") == {"status": expected, "checks": {"db": {"status": expected}}}


async def test_details_say_why_without_credentials(health):
    """Details name the error and never a password."""

    def probe():
        raise ConnectionError("redis://u:s3cr3t@host refused")

    health.add("db", probe)
    report = await health.report(details=True)
    assert report["checks"]["db"]["output"] == "ConnectionError: redis://***@host refused"
    assert "output" not in (await health.report())["checks"]["db"]


async def test_live_never_asks_a_dependency(health):
    """Liveness looks at no check: a dependency that is down must not restart the service."""
    asked = []
    health.add("db", lambda: asked.append(1) or False)
    assert await health.report("live") == {"status": "pass", "checks": {}}
    assert asked == []


@pytest.mark.parametrize("kind", ["thread", "task", "deaf task"])
async def test_a_hung_probe_fails_in_time_and_is_not_started_twice(health, clock, kind):
    """A probe that hangs is a failure after its time-out; the same one is never in flight twice."""
    started = []
    release = threading.Event()

    def in_thread():
        started.append(1)
        release.wait(10)

    async def task():
        started.append(1)
        while True:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                if kind == "task" or release.is_set():
                    raise

    health.add("db", in_thread if kind == "thread" else task, timeout_s=0.05)
    report = await asyncio.wait_for(health.report(details=True), 5)
    assert report["checks"]["db"] == {"status": "fail", "output": "no answer within 0.05 s"}
    clock.advance(5)
    assert (await asyncio.wait_for(health.report(), 5))["status"] == "fail"
    assert len(started) == (2 if kind == "task" else 1)
    release.set()
    for left in asyncio.all_tasks() - {asyncio.current_task()}:
        left.cancel()


async def test_one_hung_probe_does_not_hold_up_the_others(health):
    """Checks run side by side."""
    release = threading.Event()
    health.add("slow", lambda: release.wait(10), timeout_s=0.05)
    health.add("fast", lambda: True, timeout_s=0.05)
    report = await health.report()
    release.set()
    assert {name: found["status"] for name, found in report["checks"].items()} == {"slow": "fail", "fast": "pass"}


async def test_answers_are_kept_for_a_second_and_shared(health, clock):
    """Many requests at a time ask a dependency once a second."""
    asked = []

    async def probe():
        asked.append(1)
        await asyncio.sleep(0.01)

    health.add("db", probe)
    reports = await asyncio.gather(*(health.report() for _ in range(20)))
    assert [report["status"] for report in reports] == ["pass"] * 20
    assert len(asked) == 1
    await health.report()
    assert len(asked) == 1
    clock.advance(1.1)
    await health.report()
    assert len(asked) == 2


async def test_a_request_that_is_cancelled_does_not_cancel_the_round(health):
    """A client that leaves does not spoil the answer for others."""

    async def probe():
        await asyncio.sleep(0.05)

    health.add("db", probe)
    leaving = asyncio.ensure_future(health.report())
    await asyncio.sleep(0.01)
    staying = asyncio.ensure_future(health.report())
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying)["status"] == "pass"


def test_checks_work_over_several_event_loops(health, clock):
    """A loop that ended with a hung check does not block the next one."""

    async def probe():
        await asyncio.sleep(30)

    health.add("db", probe, timeout_s=0.02)
    for _ in range(2):
        assert asyncio.run(health.report())["status"] == "fail"
        clock.advance(2)


async def test_an_open_breaker_is_a_warning(health, host):
    """A backend whose breaker is open degrades the service until it is up again."""
    host.bus.send(BackendDown("redis", "timeout"))
    report = await health.report("ready", details=True)
    assert report == {"status": "warn", "checks": {"backend:redis": {"status": "warn", "output": "timeout"}}}
    host.bus.send(BackendUp("redis"))
    assert (await health.report())["status"] == "pass"


async def test_a_stopping_service_is_not_ready_and_alive(health):
    """Draining fails readiness at once and leaves liveness alone."""
    health.drain()
    assert (await health.report("ready"))["status"] == "fail"
    assert (await health.report("live"))["status"] == "pass"


async def test_checks_of_the_current_runtime(runtime):
    """`monitor.check` adds to the current runtime, and a second one of the name replaces the first."""
    check("db", lambda: False)
    check("db", lambda: True)
    assert (await runtime.monitor.health.report())["checks"] == {"db": {"status": "pass"}}


def test_wrong_checks_are_refused_at_once(health):
    """A probe that cannot be called and a time-out that is none are errors when adding."""
    with pytest.raises(ConfigError, match="cannot be called"):
        health.add("db", 5)
    for timeout in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="timeout_s"):
            health.add("db", lambda: True, timeout_s=timeout)


async def test_an_unknown_group_is_refused(health):
    """A group is all, live or ready."""
    with pytest.raises(ConfigError, match="all, live, ready"):
        await health.report("startup")
