"""What `why` tells is what the cache does: in random lives of three levels it names an answer where there is one."""

from __future__ import annotations

import random
from contextlib import ExitStack

import pytest

from smw import cache
from smw.testing import FakeClock, faults, isolated

FAULTS = (faults.down, faults.garbage, faults.full, faults.hang, faults.readonly)
STEPS = ("call", "call", "tag", "key", "advance", "advance", "forget", "elsewhere", "everything")


@cache.cached(ttl=20, tags=["t", "k:{k}"], stale_if_error=10)
def load(k: int) -> dict[str, int]:
    """The function of which all is told."""
    return {"k": k}


def step(what, drawn, runtime, clock, key):
    """Do one thing that may happen to a cache."""
    k = drawn.randrange(3)
    counters = runtime.cache.engine.remote.servers[0].store.counters
    if what == "call":
        assert load(k) == {"k": k}
    elif what == "tag":
        cache.drop_sync(tags=[f"k:{k}"])
    elif what == "key":
        cache.drop_sync(keys=[key[k]])
    elif what == "advance":
        clock.advance(drawn.choice([0.5, 3, 11, 31]))
    elif what == "forget":
        runtime.cache.engine.memory.clear()
    elif what == "elsewhere" and counters:
        counters[drawn.choice(list(counters))] += 1000  # as another process drops
    elif what == "everything" and drawn.random() < 0.2:
        cache.clear_sync()


@pytest.mark.parametrize("seed", range(12))
def test_why_names_an_answer_where_there_is_one(seed):
    """After every step, with faults or without, `peek` has a value exactly where the story says that one answers."""
    drawn, clock = random.Random(seed), FakeClock()
    levels = {"l2_url": "memory://", "l3_servers": ["memory://"], "namespace": "n", "l1_trust_ms": seed % 2 * 1000}
    with isolated(clock=clock, cache=levels) as runtime:
        key = [cache.key_for(load, k) for k in range(3)]
        for _ in range(40):
            with ExitStack() as struck:
                for level in ("l2", "l3"):
                    if drawn.random() < 0.2:
                        struck.enter_context(drawn.choice(FAULTS)(level))
                step(drawn.choice(STEPS), drawn, runtime, clock, key)
                for one in key:
                    story = cache.why_sync(one)
                    assert (story.served_by is None) == (cache.peek_sync(one) is None), str(story)
