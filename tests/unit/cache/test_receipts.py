"""What a server has acknowledged to drop, by which older values are known whatever it does afterwards."""

from __future__ import annotations

import pytest

from smw.cache.coherence.debt import Owed
from smw.cache.coherence.receipts import MARGIN_S, MOST, Receipts
from smw.cache.naming.names import fence_of
from smw.testing import FakeClock

KEY = "smw:shop:0"
FENCE = fence_of(KEY)


@pytest.fixture
def clock():
    return FakeClock(now=100.0)


@pytest.fixture
def receipts(clock):
    return Receipts(clock)


def test_what_carries_less_than_was_shown_is_older(receipts):
    """Each counter is compared by itself, and the time only for as long as clocks may differ."""
    receipts.note(Owed(["a", "b"], [], 1), [7, 9])
    assert receipts.outdates(["a"], [6], 100.0)
    assert not receipts.outdates(["a"], [7], 100.0)
    assert receipts.outdates(["other", "b"], [0, 8], 100.0)
    assert not receipts.outdates(["other", "b"], [0, 9], 100.0)
    assert not receipts.outdates(["a"], [6], 100.0 + MARGIN_S)
    assert receipts.outdates(["a"], [6], 99.9 + MARGIN_S)


def test_a_key_goes_by_its_own_counter(receipts):
    """The counter is no scope beside it; a key that was dropped without one is older whatever it carries."""
    receipts.note(Owed([FENCE, "tag"], [KEY], 1), [5, 3])
    assert len(receipts) == 2
    assert [receipts.outdates([KEY], [number], 100.0) for number in (4, 5)] == [True, False]
    receipts.note(Owed([], ["alone"], 2), [])
    assert receipts.outdates(["alone"], [10**9], 100.0)


def test_a_server_whose_numbers_do_not_grow_leaves_no_receipt(receipts):
    """Nothing could be compared with them."""
    receipts.note(Owed(["a"], ["key"], 1), None)
    assert len(receipts) == 0


def test_a_server_that_has_lost_a_drop_is_not_believed_when_it_shows_less(receipts):
    """The greatest number that it has shown counts, and the latest moment."""
    receipts.note(Owed(["a"], [], 1), [9])
    receipts.note(Owed(["a"], [], 2), [2], until=150.0)
    assert receipts.outdates(["a"], [8], 149.0)
    assert not receipts.outdates(["a"], [9], 149.0)
    assert not receipts.outdates(["a"], [8], 150.0)


def test_a_value_that_tells_no_counters_is_older_than_any_drop(receipts):
    """It was stored while nobody told what they showed; without a drop it stands."""
    receipts.note(Owed(["a"], [], 1), [1])
    assert receipts.outdates(["key", "a"], [9], 100.0)
    assert not receipts.outdates(["key", "b"], [9], 100.0)


def test_beyond_ten_thousand_the_oldest_half_is_remembered_by_its_time(receipts, clock):
    """What was made before any of those ended is older; a drop that was acknowledged again is one of late."""
    receipts.note(Owed([f"t{number}" for number in range(MOST)], [], 1), [5] * MOST)
    assert len(receipts) == MOST
    assert not receipts.outdates(["other"], [0], 0.0)
    clock.advance(10)
    receipts.note(Owed(["t0", "new"], [], 2), [6, 6])
    assert len(receipts) == MOST // 2
    assert receipts.outdates(["other"], [10**9], 99.0 + MARGIN_S)
    assert not receipts.outdates(["other"], [10**9], 100.0 + MARGIN_S)
    assert [receipts.outdates([name], [5], 110.0) for name in ("t0", "new", "t1")] == [True, True, False]


def test_of_what_is_forgotten_the_latest_end_counts(receipts):
    """Which is not that of the last one."""
    receipts.note(Owed(["long"], [], 1), [5], until=500.0)
    receipts.note(Owed([f"t{number}" for number in range(MOST)], [], 2), [5] * MOST)
    assert [receipts.outdates(["other"], [10**9], made) for made in (499.0, 500.0)] == [True, False]
