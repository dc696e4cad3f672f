"""How long closing takes at most, and what the thread of writes knows and lets go of."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from smw.cache.strategies import closing as closing_module
from smw.cache.strategies.closing import Patience
from smw.cache.strategies.drainer import Drainer
from smw.testing import FakeClock


def done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def patience(clock, monkeypatch):
    """A minute, of which nothing passes while it is waited for in vain."""
    made, wait = Patience(clock, 60.0), closing_module.wait
    made.had_s = []

    def waited(futures, timeout):
        made.had_s.append(timeout)
        return wait(futures, timeout=0)

    monkeypatch.setattr(closing_module, "wait", waited)
    return made


def test_what_is_left_is_told_by_the_clock_and_by_what_was_waited_for(patience, clock):
    """Whichever leaves less: a clock may stand still while a thread is waited for. It is never less than nothing."""
    clock.advance(10.0)
    assert patience.left_s() == 50.0
    assert not patience.wait(Future(), most_s=30.0)
    assert patience.left_s() == 30.0
    clock.advance(25.0)
    assert patience.left_s() == 25.0
    clock.advance(100.0)
    assert patience.left_s() == 0.0


def test_a_wait_has_what_is_left_and_no_more(patience, clock):
    """What is done costs nothing; what is not costs what was waited, and the rest is for others."""
    assert patience.wait(done(), done())
    assert not patience.wait(done(), Future(), most_s=20.0)
    assert not patience.wait(Future(), most_s=50.0)
    assert not patience.wait(Future())
    assert patience.had_s == [60.0, 20.0, 40.0, 0.0]
    assert patience.left_s() == 0.0
    assert patience.wait()


@pytest.mark.parametrize("ends", [True, False])
def test_a_thread_is_waited_for_while_there_is_time(patience, ends):
    """One that does not end has cost all of it."""
    had_s = []
    thread = SimpleNamespace(join=had_s.append, is_alive=lambda: not ends)
    patience.join(thread)
    assert (had_s, patience.left_s()) == ([60.0], 60.0 if ends else 0.0)


def test_a_pause_counts_although_the_clock_stands_still(patience, monkeypatch):
    """And is never longer than what is left."""
    paused = []
    monkeypatch.setattr(closing_module.threading, "Event", lambda: SimpleNamespace(wait=paused.append))
    patience.pause(45.0)
    patience.pause(45.0)
    assert (paused, patience.left_s()) == ([45.0, 15.0], 0.0)


class Behind:
    """Writes of functions, some of which wait."""

    is_closed = False

    def __init__(self) -> None:
        self.ticks, self.waiting, self.failing = 0, {"a", "b"}, None

    def tick(self) -> None:
        self.ticks += 1

    def waiting_writers(self) -> set[str]:
        if self.failing is not None:
            raise self.failing
        return self.waiting

    def pause_s(self) -> float:
        return 7.0


def writer(name: str):
    return type("Writer", (), {"target": SimpleNamespace(name=name)})()


@pytest.fixture
def drainer():
    behind = Behind()
    made = Drainer(behind)
    made.behind, made.writers = behind, [writer(name) for name in "abc"]
    for each in made.writers:
        made.owe(behind, each)
    return made


def test_the_cache_is_held_for_the_functions_whose_writes_wait(drainer):
    """Each round lets go of those that have none any more, and says when it is to be looked next."""
    a, b, _ = drainer.writers
    assert drainer._once() == 7.0
    assert drainer._owing == {a: drainer.behind, b: drainer.behind}
    drainer.behind.waiting = set()
    assert drainer._once() == 7.0
    assert (drainer._owing, drainer.behind.ticks) == ({}, 2)


@pytest.mark.parametrize("error", [OSError("disk"), SystemExit()])
def test_where_nobody_can_tell_what_waits_it_is_held_on(drainer, error, caplog):
    """What is acknowledged is tried again whatever it was, and the thread goes on unless the process ends."""
    drainer.behind.failing = error
    if isinstance(error, OSError):
        assert drainer._once() == 7.0
        assert "tried again" in caplog.text
    else:
        with pytest.raises(SystemExit):
            drainer._once()
    assert set(drainer._owing) == set(drainer.writers)


def test_what_goes_on_failing_is_told_once_and_anew_after_it_has_worked(drainer, caplog):
    """A full disk stays full for long; what is another error is told at once."""
    told = []
    for failing in (OSError("disk"), OSError("disk"), OSError("other"), None, OSError("other")):
        caplog.clear()
        drainer.behind.failing = failing
        drainer._once()
        told.append([record.levelname for record in caplog.records if record.levelname == "ERROR"])
    assert told == [["ERROR"], [], ["ERROR"], [], ["ERROR"]]


def test_the_thread_of_a_cache_that_is_gone_ends_at_once(drainer, monkeypatch):
    """There is nothing that it could look at."""
    monkeypatch.setattr(drainer, "_once", lambda: pytest.fail("nobody is there"))
    drainer._owing = {}
    del drainer.behind
    thread = drainer.start()
    thread.join(60)
    assert not thread.is_alive()


def test_a_cache_that_is_closed_is_let_go_of(drainer):
    """Closing does the rest by itself."""
    drainer.behind.is_closed = True
    assert drainer._once() is None
    assert (drainer._owing, drainer.behind.ticks) == ({}, 0)


def test_the_journals_of_a_cache_that_is_gone_are_closed(drainer):
    """All that it has opened; the thread ends."""
    closed = []
    drainer.opened = [SimpleNamespace(close=lambda name=name: closed.append(name)) for name in "xy"]
    drainer._owing = {}
    del drainer.behind
    assert drainer._once() is None
    assert closed == ["x", "y"]


def test_the_thread_looks_again_whenever_it_is_woken_and_after_each_pause(drainer, monkeypatch):
    """Until a round says that there is nothing left to look at."""
    pauses, rounds = [], iter([3.0, 2.0, None])
    monkeypatch.setattr(drainer, "_once", lambda: next(rounds))
    monkeypatch.setattr(drainer.wake, "wait", pauses.append)
    drainer.wake.set()
    thread = drainer.start()
    assert thread.daemon
    thread.join(60)
    assert pauses == [7.0, 3.0, 2.0]
    assert not drainer.wake.is_set()
    assert threading.current_thread() is not thread
