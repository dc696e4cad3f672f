"""More blocking callers than connections: they wait for one another, which is not held against the server."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest

from smw._kernel.clock import SystemClock, SystemEntropy
from smw._kernel.guard import Budget
from smw._kernel.host import Host
from smw.cache.levels.level import Level, run_blocking
from smw.cache.ports import StoreFailedError
from smw.cache.stores.deadlines import LagError
from smw.cache.stores.memcached import MemcachedStore
from smw.cache.stores.turns import Turns, waited_s
from smw.testing import FakeClock
from tests.unit.cache.test_outage import until

CONNECTIONS = 64


class Client:
    """A client of memcached that answers once it may."""

    def __init__(self, may, asked):
        self._may, self._asked = may, asked

    def version(self):
        self._asked.release()
        assert self._may.wait(30)
        return b"1.6"

    def close(self):
        """Do nothing."""


@pytest.fixture
def held():
    """A store all of whose connections are in use, and what lets their callers go on."""
    may, asked = threading.Event(), threading.Semaphore(0)
    store = MemcachedStore("127.0.0.1:1", timeout_s=0.05, clock=SystemClock(), entropy=SystemEntropy())
    store._blocking._made = lambda: Client(may, asked)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        users = [threads.submit(store.probe) for _ in range(CONNECTIONS)]
        assert all(asked.acquire(timeout=30) for _ in users)
        yield store, may
        may.set()
        assert [user.result(30) for user in users] == [None] * CONNECTIONS


def test_connections_that_stay_in_use_are_no_fault_of_the_server(held):
    """Who waits in vain has a lag counted, however often that happens, and the breaker stays shut."""
    store, may = held
    level = Level("l3", store, Host(), timeout_s=0.05, everything="t")
    with pytest.raises(StoreFailedError, match="lag"):
        store.probe()
    for _ in range(6):
        assert run_blocking(level.ask(store.read, "k", (), budget=Budget(SystemClock(), 30.0), mode="sync")) is None
    may.set()
    level.close()
    assert dict(level.errors) == {"lag": 6}
    assert not level.breaker.is_open


def test_an_answer_that_came_late_for_want_of_a_connection_is_a_lag(held):
    """The caller beyond the last connection is answered once one is given back; its wait makes no server slow."""
    store, may = held
    store._blocking._turns._wait_s = 30.0
    clock = FakeClock()
    level = Level("l3", store, Host(clock=clock), timeout_s=0.05, everything="t")

    async def version(*, mode, timeout_s):
        clock.advance(0.07)
        return store._blocking.ask("version")

    def asked():
        return run_blocking(level.ask(version, budget=Budget(clock, 30.0), mode="sync"))

    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(asked)
        assert until(lambda: store._blocking._turns.waiters)
        time.sleep(0.05)  # by the clock by which callers wait
        may.set()
        assert waiting.result(30) == b"1.6"
        assert dict(level.errors) == {"lag": 1}
        slow = threading.Thread(target=asked)  # which has never waited
        slow.start()
        slow.join(30)
    assert dict(level.errors) == {"lag": 1, "slow": 1}
    level.close()


class Waits:
    """Turns of ten seconds, on a clock that goes on only while somebody waits: he does so for what `steps` say."""

    def __init__(self, monkeypatch, *steps) -> None:
        self.clock, self.steps, self.had_s = FakeClock(), list(steps), []
        monkeypatch.setattr("smw.cache.stores.turns.SystemClock", self.clock)
        self.turns = Turns(deque(), wait_s=10.0)
        monkeypatch.setattr(self.turns._given_back, "wait", self.wait)

    def wait(self, most_s: float) -> bool:
        self.had_s.append(most_s)
        assert self.turns.waiters == 1
        after_s, given_back = self.steps.pop(0)
        self.clock.advance(min(after_s, most_s))
        self.turns.idle.extend(given_back)
        return after_s <= most_s


def test_who_finds_no_connection_waits_until_one_is_given_back(monkeypatch):
    """Also when somebody who has just come is quicker to take it: all waits of one caller have one end."""
    waits = Waits(monkeypatch, (4.0, []), (3.0, ["connection"]))
    assert waits.turns.take() == "connection"
    assert waits.had_s == [pytest.approx(10.0), pytest.approx(6.0)]
    assert (waits.turns.waiters, list(waits.turns.idle)) == (0, [])


def test_a_connection_that_is_there_is_waited_for_by_nobody(monkeypatch):
    """It may have been given back between the look of the caller and his turn."""
    waits = Waits(monkeypatch)
    waits.turns.idle.append("connection")
    assert waits.turns.take() == "connection"
    assert (waits.had_s, waits.turns.waiters) == ([], 0)


def test_who_waits_in_vain_is_late_and_waits_no_more(monkeypatch):
    """Nobody is woken for him afterwards."""
    waits = Waits(monkeypatch, (4.0, []), (7.0, ["too late"]))
    with pytest.raises(LagError, match="in use"):
        waits.turns.take()
    assert waits.turns.waiters == 0


def test_how_long_a_thread_has_waited_is_told_once_and_to_that_thread(monkeypatch):
    """The wait for one request is not held against the next one."""
    waits = Waits(monkeypatch, (4.0, ["connection"]))
    waits.turns.take()
    with ThreadPoolExecutor(1) as other:
        assert other.submit(waited_s).result(30) == 0.0
    assert (waited_s(), waited_s()) == (pytest.approx(4.0), 0.0)
