"""The rate limiter: rates, GCRA, bounded memory."""

from __future__ import annotations

import threading

import pytest

from smw.errors import ConfigError
from smw.security.limit import Limiter, Rate, parse_rate
from smw.testing import FakeClock


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/minute", Rate(100, 60)),
        ("5 per second", Rate(5, 1)),
        ("10/15 minutes", Rate(10, 900)),
        (" 7 / Hour ", Rate(7, 3600)),
        ("1/2d", Rate(1, 172_800)),
        ("3/s", Rate(3, 1)),
    ],
)
def test_rates_are_read(text, rate):
    """Rates may be written the usual ways."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "x/minute", "100/fortnight", "0/minute", "5/0 minutes", "-1/s", "1.5/s", "1/ss", "5/ms"]
)
def test_wrong_rates_are_refused(text):
    """Anything else is an error that shows how to write one."""
    with pytest.raises(ConfigError, match="no rate"):
        parse_rate(text)


def test_a_burst_passes_and_then_one_at_a_time():
    """The whole count may come at once; then each period of one is worth one."""
    clock = FakeClock()
    limiter = Limiter(clock)
    decisions = [limiter.hit("a", "5/minute") for _ in range(7)]
    assert [d.allowed for d in decisions] == [True] * 5 + [False] * 2
    assert [d.remaining for d in decisions] == [4, 3, 2, 1, 0, 0, 0]
    assert decisions[-1].retry_after_s == pytest.approx(12)
    clock.advance(11.9)
    assert not limiter.hit("a", "5/minute").allowed
    clock.advance(0.2)
    assert limiter.hit("a", "5/minute").allowed
    assert not limiter.hit("a", "5/minute").allowed
    clock.advance(600)
    assert sum(limiter.hit("a", "5/minute").allowed for _ in range(9)) == 5


def test_refusals_are_free():
    """Hammering while refused does not push the next permission away."""
    clock = FakeClock()
    limiter = Limiter(clock)
    limiter.hit("a", "1/minute")
    for _ in range(100):
        assert not limiter.hit("a", "1/minute").allowed
    clock.advance(60.001)
    assert limiter.hit("a", "1/minute").allowed


def test_costs_weigh():
    """An event may cost several."""
    limiter = Limiter(FakeClock())
    assert limiter.hit("a", "10/minute", cost=6).remaining == 4
    assert not limiter.hit("a", "10/minute", cost=5).allowed
    assert limiter.hit("a", "10/minute", cost=4).allowed


def test_keys_and_rates_count_apart():
    """Each key has its own count, and under each rate."""
    limiter = Limiter(FakeClock())
    assert limiter.hit("a", "1/minute").allowed
    assert limiter.hit("b", "1/minute").allowed
    assert limiter.hit("a", "1/hour").allowed
    assert not limiter.hit("a", Rate(1, 60)).allowed
    assert not limiter.hit("a", "1 per minute").allowed


def test_a_flood_of_keys_shares_one_bucket():
    """Beyond the most keys that are remembered new ones share a bucket; known ones keep their own."""
    clock = FakeClock()
    limiter = Limiter(clock, max_keys=10)
    for n in range(10):
        limiter.hit(f"k{n}", "2/minute")
    flood = [limiter.hit(f"x{n}", "2/minute").allowed for n in range(50)]
    assert sum(flood) == 2
    assert limiter.hit("k0", "2/minute").allowed
    assert all(len(bucket.due) <= 11 for bucket in limiter._buckets.values())
    clock.advance(120)
    assert all(limiter.hit(f"y{n}", "2/minute").allowed for n in range(8))


def test_threads_never_get_more_than_the_limit():
    """Concurrent hits add up."""
    limiter = Limiter(FakeClock())
    allowed = []

    def work():
        allowed.extend(limiter.hit("a", "1000/hour").allowed for _ in range(500))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 1000


def test_a_forked_child_gets_a_free_lock():
    """A lock that was held during a fork does not hang the child."""
    limiter = Limiter(FakeClock())
    limiter._lock.acquire()
    limiter.after_fork()
    assert limiter.hit("a", "1/minute").allowed
