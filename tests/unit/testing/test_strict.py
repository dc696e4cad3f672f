"""`isolated(strict=True)`: what the cache keeps from its callers fails the test."""

from __future__ import annotations

import io

import pytest

from smw import cached
from smw.cache import Cache
from smw.errors import ConfigError
from smw.testing import faults, isolated

LEVELS = {"l2_url": "memory://strict"}


@pytest.mark.parametrize("strict", [True, False])
def test_a_result_that_is_not_cached_fails_the_block(strict):
    """It is told at the end, with the function and the reason; without `strict` nobody is told."""
    failed = None
    try:
        with isolated(strict=strict):
            cached(60)(lambda: io.StringIO("x"))()
    except AssertionError as error:
        failed = str(error)
    assert (failed is not None and "one-shot-result" in failed) is strict


def test_a_server_that_fails_once_fails_the_block():
    """One failure is enough, long before a server counts as down."""
    told = pytest.raises(AssertionError, match=r"errors of .*l2")
    with told, isolated(strict=True, cache=LEVELS), faults.down("l2"):
        assert cached(60, key=lambda: 1)(lambda: 1)() == 1


def test_nothing_fails_where_all_is_well():
    """Misses, hits and drops are no failures."""
    with isolated(strict=True, cache=LEVELS) as runtime:
        load = cached(60, tags=["t"])(abs)
        assert [load(-1), load(-1)] == [1, 1]
        runtime.cache.drop_sync(tags=["t"])
        assert load(-1) == 1


def test_what_the_block_raises_goes_first():
    """An error of the test itself is the one that is seen."""
    with pytest.raises(ZeroDivisionError), isolated(strict=True):
        assert cached(60)(lambda: io.StringIO("x"))().read() == "x" * (1 // 0)


def test_the_word_is_among_those_that_are_meant():
    """Whoever mistypes it is told which argument he meant."""
    with pytest.raises(ConfigError, match=r"isolated.. has no argument 'stric'.*'strict'"), isolated(stric=True):
        pytest.fail("it was taken")


def test_a_cache_of_ones_own_is_not_seen():
    """What it signals goes to its own host, as the page on testing says."""
    with isolated(strict=True):
        own = Cache()
        own.cached(60)(lambda: io.StringIO("x"))()
        own.close()
