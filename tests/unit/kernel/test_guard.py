"""A sick backend is left alone quickly and found again quickly."""

from __future__ import annotations

import sys
import threading
import time
import weakref

import pytest

from smw._kernel.guard import Allowance, Breaker, Budget
from smw._kernel.host import Host
from smw._kernel.signals import BackendDown, BackendUp
from smw.testing import FakeClock


def _host(clock: FakeClock | None = None) -> Host:
    return Host(clock=clock or FakeClock())


def _never() -> None:
    raise ConnectionError


def test_a_budget_runs_down_to_zero() -> None:
    """What is left shrinks with the clock and never goes below zero."""
    clock = FakeClock()
    budget = Budget(clock, 0.1)
    clock.advance(0.04)
    assert budget.left_s() == pytest.approx(0.06)
    clock.advance(1)
    assert budget.left_s() == 0.0


def test_an_allowance_is_spent_by_backends_alone() -> None:
    """What passes between two requests costs nothing, and two at once cost their time once."""
    clock = FakeClock()
    budget = Allowance(clock, 0.1)
    clock.advance(5)
    assert budget.left_s() == pytest.approx(0.1)
    budget.begin(clock.now())
    clock.advance(0.02)
    budget.begin(clock.now())
    assert budget.left_s() == pytest.approx(0.08)
    clock.advance(0.02)
    budget.end(clock.now())
    clock.advance(0.02)
    budget.end(clock.now())
    clock.advance(5)
    assert budget.left_s(clock.now()) == pytest.approx(0.04)
    budget.begin(clock.now())
    clock.advance(1)
    assert budget.left_s() == 0.0
    budget.end(clock.now())
    assert budget.left_s() == 0.0


def test_five_failures_open_and_the_signal_is_sent_once() -> None:
    """Four failures keep asking, the fifth stops it."""
    host, down = _host(), []
    host.bus.subscribe(BackendDown, down.append)
    breaker = Breaker("redis", host, _never)
    for _ in range(4):
        breaker.failed("timeout")
    assert breaker.allows()
    breaker.failed("timeout")
    breaker.failed("timeout")
    assert not breaker.allows()
    assert down == [BackendDown("redis", "timeout")]
    breaker.close()


def test_rare_failures_between_answers_do_not_open() -> None:
    """Less than half of what was asked failing is not an outage."""
    breaker = Breaker("redis", _host(), _never)
    breaker.failed("timeout")
    for _ in range(20):
        breaker.ok()
        breaker.ok()
        breaker.failed("timeout")
    assert breaker.allows()


def test_failures_in_a_row_open_whatever_was_answered_before() -> None:
    """Five that follow each other are an outage, though most of what was asked before was answered."""
    breaker, failures = Breaker("redis", _host(), _never), 0
    breaker.failed("timeout")
    for _ in range(40):
        breaker.ok()
    while breaker.allows() and failures < 20:
        breaker.failed("timeout")
        failures += 1
    assert failures == 5
    breaker.close()


def test_a_breaker_that_nobody_has_is_not_probed_for() -> None:
    """The thread that probes keeps nothing alive, and ends."""
    breaker = Breaker("lonely", _host(), lambda: 1 / 0)
    breaker.failed("gone", permanent=True)
    weak = weakref.ref(breaker)
    (prober,) = [thread for thread in threading.enumerate() if thread.name == "smw-probe-lonely"]
    del breaker
    until = time.monotonic() + 20
    while weak() is not None and time.monotonic() < until:
        time.sleep(0.02)
    assert weak() is None
    prober.join(20)
    assert not prober.is_alive()


def test_old_failures_are_forgotten() -> None:
    """Failures spread over more than the window do not add up."""
    clock = FakeClock()
    breaker = Breaker("redis", _host(clock), _never)
    for _ in range(10):
        breaker.failed("timeout")
        clock.advance(6)
    assert breaker.allows()


def test_a_permanent_failure_opens_at_once() -> None:
    """A wrong password is not tried five times."""
    breaker = Breaker("redis", _host(), _never)
    breaker.failed("wrong password", permanent=True)
    assert not breaker.allows()
    breaker.close()


@pytest.mark.parametrize(("took_s", "asked"), [(0.0, 5), (0.4, 5), (1.2, 2), (2.0, 1), (3.0, 1), (60.0, 1)])
def test_failures_count_by_the_time_they_have_taken(took_s: float, asked: int) -> None:
    """A single thread that is kept for seconds each time would never see five failures within the window."""
    clock = FakeClock()
    breaker, failures = Breaker("redis", _host(clock), _never), 0
    while breaker.allows() and failures < 20:
        clock.advance(took_s)
        breaker.failed("timeout", took_s=took_s)
        failures += 1
    assert failures == asked
    breaker.close()


def test_one_slow_failure_among_many_answers_does_not_open() -> None:
    """However long it took, most of what was asked was answered."""
    breaker = Breaker("redis", _host(), _never)
    breaker.failed("timeout")
    for _ in range(20):
        breaker.ok()
    breaker.failed("timeout", took_s=5.0)
    assert breaker.allows()


def test_the_probe_closes_it_in_the_background() -> None:
    """Once the backend answers, callers are let through without any of them having paid for it."""
    host, healthy, up, order = _host(), threading.Event(), threading.Event(), []
    host.bus.subscribe(BackendUp, lambda _signal: up.set())

    def probe() -> None:
        if not healthy.is_set():
            raise ConnectionError

    breaker = Breaker("redis", host, probe, on_up=lambda: order.append(breaker.is_open))
    breaker.failed("refused", permanent=True)
    assert not breaker.allows()
    healthy.set()
    assert up.wait(2)
    assert breaker.allows()
    assert order == [True], "repairs run before callers are let through"
    breaker.close()


def test_a_closed_breaker_stops_probing() -> None:
    """After close no thread is left asking."""
    breaker = Breaker("probe-end", _host(), _never)
    breaker.failed("refused", permanent=True)
    breaker.close()
    for thread in threading.enumerate():
        if thread.name == "smw-probe-probe-end":
            thread.join(2)
            assert not thread.is_alive()


def test_answers_of_other_threads_disturb_no_failure() -> None:
    """`ok` takes no lock, and may add what `failed` is counting."""
    breaker = Breaker("x", Host(), lambda: None)
    errors: list[BaseException] = []
    done = threading.Event()

    def answer() -> None:
        while not done.is_set():
            breaker.ok()

    threads = [threading.Thread(target=answer) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(3_000):
            try:
                breaker.failed("timeout")
            except RuntimeError as error:
                errors.append(error)
    finally:
        sys.setswitchinterval(interval)
        done.set()
        for thread in threads:
            thread.join()
        breaker.close()
    assert not errors
