"""What was invalidated, here or elsewhere as far as heard: no load that began before it is kept."""

from __future__ import annotations

import pytest

from smw.cache.coherence.fence import MOST_SCOPES, Fence
from smw.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def fence(clock):
    return Fence(clock)


def test_each_scope_of_an_invalidation_dooms_the_loads_that_began_before(fence):
    """Those of other scopes stand, and so do those that begin afterwards."""
    before = fence.epoch
    fence.lift(["a", "b"])
    assert [fence.stands([scope], before) for scope in ("a", "b", "c")] == [False, False, True]
    assert not fence.stands(["c", "b"], before)
    assert fence.stands(["a", "b", "c"], fence.epoch)
    again = fence.epoch
    fence.lift(["b"])
    assert fence.stands(["a"], again)
    assert not fence.stands(["a", "b"], again)


def test_where_anything_may_have_been_dropped_every_load_is_doomed(fence):
    """Whatever its scopes, also where nothing was invalidated by name."""
    before = fence.epoch
    fence.lift_all()
    assert not fence.stands(["a"], before)
    assert not fence.stands([], before)
    assert fence.stands(["a"], fence.epoch)
    between = fence.epoch
    fence.lift(["b"])
    assert (fence.stands(["a"], between), fence.stands(["a"], before)) == (True, False)
    fence.lift_all()
    assert not fence.stands(["b"], between + 1)


@pytest.mark.parametrize("count", [MOST_SCOPES, MOST_SCOPES + 1])
def test_more_scopes_than_are_remembered_doom_every_load(fence, count):
    """Up to ten thousand each is remembered by itself; beyond it none is forgotten, for all count as invalidated."""
    before = fence.epoch
    fence.lift(f"s{number}" for number in range(count))
    assert not fence.stands(["s0"], before)
    assert not fence.stands([f"s{count - 1}"], before)
    assert fence.stands(["other"], before) is (count == MOST_SCOPES)
    assert fence.stands(["s0", "other"], fence.epoch)
    after = fence.epoch
    fence.lift(["s0"])
    assert (fence.stands(["s0"], after), fence.stands(["s1"], after)) == (False, True)


def test_who_looks_while_scopes_are_forgotten_finds_them_invalidated(fence):
    """Looking takes no lock: all must count as invalidated before the first one is forgotten."""
    found = []

    class Looked(Fence):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name in ("_raised", "_floor", "_floor_at"):
                found.append(self.stands(["s0"], before))

    before = fence.epoch
    fence.__class__ = Looked
    fence.lift(f"s{number}" for number in range(MOST_SCOPES + 1))
    assert found == [False] * 3


def test_when_something_was_invalidated_is_remembered(fence, clock):
    """By name, or because anything may have been: the latest of it counts."""
    assert fence.lifted_at(["a"]) is None
    assert not fence.lifted_within(["a"], 5.0)
    began = clock.now()
    fence.lift(["a", "b"])
    clock.advance(3.0)
    fence.lift(["b"])
    assert [fence.lifted_at(scopes) for scopes in (["a"], ["b"], ["a", "b"], ["c"], [])] == [
        began, began + 3.0, began + 3.0, None, None,
    ]  # fmt: skip
    assert [fence.lifted_within(["a", "c"], seconds) for seconds in (2.0, 4.0)] == [False, True]
    assert [fence.lifted_within(["a", "b"], seconds) for seconds in (2.0, 4.0)] == [True, True]
    assert not fence.lifted_within(["c"], 60.0)
    clock.advance(3.0)
    fence.lift_all()
    clock.advance(1.0)
    assert [fence.lifted_at(scopes) for scopes in (["a"], ["c"], [])] == [began + 6.0] * 3
    assert [fence.lifted_within(["c"], seconds) for seconds in (0.5, 2.0)] == [False, True]
