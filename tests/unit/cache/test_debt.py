"""What a server still has to drop: struck once it has acknowledged just that, and never for a moment too early."""

from __future__ import annotations

import pytest

from smw.cache.coherence.debt import MOST, Debt


class Watched(dict):
    """Says of each change what is owed while it is made."""

    def __init__(self, owed, seen) -> None:
        super().__init__(owed)
        self._seen = seen

    def pop(self, *args):
        taken = super().pop(*args)
        self._seen.append(tuple(self))
        return taken


@pytest.fixture
def debt():
    return Debt("*")


def test_what_was_owed_again_stays_and_the_rest_of_the_payment_is_struck(debt):
    """One name of a payment that is owed anew says nothing of those beside it."""
    paid = debt.add(["again", "once"], ["again-key", "once-key"])
    debt.add(["again"], ["again-key"])
    debt.settle(paid)
    assert debt.names() == (("again",), ("again-key",))


def test_what_was_owed_again_is_owed_at_every_moment(debt):
    """Readers take no lock: not even while an older payment is settled may they find it paid."""
    paid, seen = debt.add(["again", "once"], []), []
    debt.add(["again"], [])
    debt._counters = Watched(debt._counters, seen)
    debt.settle(paid)
    assert seen == [("again",)]


@pytest.mark.parametrize("times", [1, 2])
def test_what_is_owed_again_while_it_is_settled_is_struck_by_the_last_payment_alone(debt, times):
    """A signal handler may drop it in the very middle, before and after it is taken out: each has its own number."""
    payments = [debt.add(["tag"], [])]

    def drop() -> None:
        if len(payments) <= times:
            payments.append(debt.add(["tag"], []))

    class Interrupted(dict):
        def pop(self, *args):
            drop()
            taken = super().pop(*args)
            drop()
            return taken

    debt._counters = Interrupted(debt._counters)
    debt.settle(payments[0])
    for payment in payments[:-1]:
        debt.settle(payment)
        assert debt.names() == (("tag",), ())
    debt.settle(payments[-1])
    assert len(payments) == times + 1
    assert not debt


def test_a_key_alone_is_owed(debt):
    """It needs no counter beside it, and no tag a key: the server may still hold a value of either."""
    debt.add([], ["key"])
    assert debt.covers(["other", "key"])
    debt.add(["tag"], [])
    assert debt.covers(["tag", "other"])
    assert not debt.covers(["other"])


def test_a_batch_is_a_part_and_all_is_paid_by_some(debt):
    """A request has a size that servers take, however much is owed."""
    debt.add([f"t{number}" for number in range(1_100)], [f"k{number}" for number in range(700)])
    parts = []
    while debt:
        owed = debt.batch()
        parts.append((len(owed.counters), len(owed.keys)))
        debt.settle(owed)
    assert parts == [(500, 500), (500, 200), (100, 0)]


def test_a_batch_pays_what_was_owed_when_it_was_taken(debt):
    """What is owed after that has a later number, although it is the same name."""
    debt.add(["first"], [])
    debt.add(["second"], ["key"])
    owed = debt.batch()
    debt.add(["first"], ["key"])
    debt.settle(owed)
    assert debt.names() == (("first",), ("key",))


def test_up_to_ten_thousand_scopes_are_owed_one_by_one(debt):
    """One more, and everything is owed in their place, under the number of the last."""
    debt.add([f"t{number}" for number in range(MOST - 1)], ["key"])
    debt.bound()
    assert len(debt) == MOST
    paid = debt.batch()
    debt.add(["one more"], [])
    debt.bound()
    debt.settle(paid._replace(counters=["*"]))
    assert debt.names() == (("*",), ())


def test_everything_in_place_of_all_leaves_no_key_behind(debt):
    """Neither a counter nor a key is owed beside it, and it is struck like any other."""
    debt.add(["t"], [f"k{number}" for number in range(MOST)])
    debt.bound()
    assert debt.names() == (("*",), ())
    assert debt.covers(["anything"])
    debt.settle(debt.batch())
    assert not debt.covers(["anything"])
    assert debt.batch() == ([], [], 0)
