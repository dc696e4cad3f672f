"""Where the results of calls belong: what is remembered of it, and what is looked at anew each time."""

from __future__ import annotations

from smw import cache as cache_module
from smw._kernel.call import Call
from smw._kernel.chain import stack_of


def test_where_results_belong_is_remembered_within_bounds(cache):
    """Of the arguments of late, and of short ones alone; what is remembered is what anybody else would find."""
    load = cache.cached(60, tags=["all", "each:{text}"])(lambda text: text.upper())
    load("one")
    stack = stack_of(load)
    placing = stack.advices[0].function(stack.target).placing
    first = placing.of(Call(stack.target, ("one",), {}))
    assert first is placing.of(Call(stack.target, (), {"text": "one"}))
    assert first.text == cache_module.key_for(load, "one")
    load("long" * 100)
    assert list(placing._known) == ["one"]
    assert load("long" * 100) == "LONG" * 100
    for number in range(2000):
        assert load(str(number)) == str(number)
    assert len(placing._known) < 1000
