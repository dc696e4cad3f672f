"""What a fork waits for: each transaction under way, for a bound, and the child finds all of it free."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from smw.cache.strategies import forks


@pytest.fixture
def other():
    """Another thread."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda call, *args: thread.submit(call, *args).result(60)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Journals of other tests may still be there."""
    monkeypatch.setattr(forks, "_all", type(forks._all)())


def is_free(whole) -> bool:
    """Whether the calling thread can have it at once."""
    free = whole._lock.acquire(blocking=False)
    if free:
        whole.release()
    return free


def test_a_fork_holds_all_and_lets_them_go_in_the_parent(other):
    """No transaction begins between the moment before the fork and that after it."""
    all_of_them = [forks.Whole() for _ in range(2)]
    forks._before()
    assert [other(is_free, each) for each in all_of_them] == [False, False]
    forks._in_parent()
    assert [other(is_free, each) for each in all_of_them] == [True, True]
    forks._in_parent()


def test_a_transaction_is_whole_for_a_fork_elsewhere(other, monkeypatch):
    """It is held while the block runs, and let go when that fails."""
    monkeypatch.setattr(forks, "_MOST_S", 0.001)
    whole, held = forks.Whole(), []

    def transaction() -> None:
        with whole:
            held.append(not other(whole.hold))
            raise KeyError

    with pytest.raises(KeyError):
        transaction()
    assert held == [True]
    assert other(is_free, whole)


def test_what_is_not_free_in_time_is_forked_all_the_same_and_stays_held(other, monkeypatch):
    """Who has it goes on; the parent lets go of what it has, and no more."""
    monkeypatch.setattr(forks, "_MOST_S", 0.001)
    busy, idle = forks.Whole(), forks.Whole()
    other(busy._lock.acquire)
    forks._before()
    forks._in_parent()
    assert (is_free(busy), other(is_free, idle)) == (False, True)
    other(busy.release)
    assert is_free(busy)


def test_in_the_child_all_of_it_is_free(other):
    """Whoever held it: only one thread has come along."""
    busy, idle = forks.Whole(), forks.Whole()
    other(busy._lock.acquire)
    before = busy._lock
    forks._here.held = [idle]
    forks._in_child()
    assert (is_free(busy), other(is_free, idle)) == (True, True)
    assert busy._lock is not before
    forks._in_parent()


def test_the_interpreter_is_told_of_forks_once(monkeypatch):
    """However many journals there are."""
    told = []
    monkeypatch.setattr(forks, "_registered", [])
    monkeypatch.setattr(forks.os, "register_at_fork", lambda **callbacks: told.append(callbacks))
    forks.Whole()
    forks.Whole()
    assert told == [{"before": forks._before, "after_in_parent": forks._in_parent, "after_in_child": forks._in_child}]
