"""The coherence that is promised, on every schedule of small systems that run the cache's own code.

``SMW_COHERENCE=full`` searches the larger systems too, which takes minutes.
"""

from __future__ import annotations

import faulthandler
import os

import pytest

from smw.cache.naming.names import fence_of
from tests.properties.coherence_ahead import System
from tests.properties.coherence_process import EVERYTHING, KEY, TAG, Setup

FENCE = fence_of(KEY)
BOTH = ("l2", "l3")
HEARD = Setup(readers=(0, 1), hears=(1,), filled=True, names=())
PULSE = ("pulse", 1)
OF_TWO = HEARD._replace(shards=("other", "l2"))
ITS_OWN = OF_TWO._replace(pulsed=("l2",))
ASTRAY = OF_TWO._replace(astray=True, by="key", pulsed=("other",))
OF_TWO_TURNED = HEARD._replace(shards=("l2", "other"))
BEHIND = Setup(levels=BOTH, readers=(1,), writers=(1,), stocked=True, skews=(-33.0,))
QUICK = {
    "tag": (Setup(),),
    "tag, cold": (Setup(warm=False),),
    "key, cold": (Setup(by="key", warm=False),),
    "tag, memcached alone": (Setup(levels=("l3",)),),
    "tag, both": (Setup(levels=BOTH),),
    "threads": (Setup(threads=True, readers=(2, 0)),),
    "drop not heard": (Setup(), ("fail", "l2")),
    "fence evicted": (Setup(by="key"), ("evict", ("l2", FENCE))),
    "put": (Setup(by="put"),),
    "no bytes": (Setup(readers=(0, 2), storable=False), ("tick", 1.2)),
    "a drop told, or lost on its way": (HEARD, PULSE, ("tick", 1.2), ("cut", 1)),
    "a drop told during a load": (Setup(readers=(0, 1), hears=(1,), storable=False), ("tick", 1.2), ("cut", 1)),
    "a drop told by two shards": (OF_TWO, ("tick", 1.2)),
    "a clock behind, Redis gone": (BEHIND, ("gone", "l2"), ("tick", 61.0)),
    "a start, and a drop here": (Setup(readers=(2,), writers=(1,), starts=True),),
    "two writers, memory filled": (Setup(levels=("l3",), readers=(1, 0), writers=(1, 1), names=(), filled=True),),
    "fail-over, a drop here": (Setup(readers=(1,), writers=(1,), stocked=True), ("lag", "l2")),
}
FULL = {
    "a drop told by two shards, or not by its own": (ITS_OWN, PULSE, ("tick", 1.2), ("miss", 1)),
    "a drop told by two shards, its own first": (OF_TWO_TURNED, PULSE, ("tick", 1.2), ("miss", 1)),
    "a drop told by two shards, values stored": (OF_TWO._replace(names=None), PULSE, ("tick", 1.2), ("cut", 1)),
    "a drop told by two shards, two pulses": (OF_TWO, PULSE, PULSE, ("tick", 1.2), ("miss", 1)),
    "a drop one shard has not heard": (OF_TWO, PULSE, ("tick", 1.2), ("fail", "other")),
    "a drop its own shard has not heard": (OF_TWO, PULSE, ("tick", 1.2), ("fail", "l2")),
    "one shard fails over": (OF_TWO, PULSE, ("tick", 1.2), ("lag", "l2")),
    "a drop told, two pulses": (HEARD, PULSE, ("tick", 0.6), ("tick", 0.6)),
    "a drop lost, two pulses": (HEARD, PULSE, PULSE, ("tick", 1.2), ("cut", 1)),
    "a drop told twice": (HEARD, PULSE, PULSE, ("tick", 1.2), ("twice", 1)),
    "a drop by key told": (HEARD._replace(by="key"), PULSE, ("tick", 1.2), ("cut", 1)),
    "fail-over": (HEARD, PULSE, ("tick", 1.2), ("failover", "l2")),
    "fail-over after a drop": (HEARD, PULSE, ("tick", 1.2), ("lag", "l2")),
    "fail-over, values stored": (HEARD._replace(names=None), PULSE, ("tick", 1.2), ("lag", "l2")),
    "key, memcached alone": (Setup(levels=("l3",), by="key"),),
    "key, both": (Setup(levels=BOTH, by="key"),),
    "threads, both": (Setup(levels=BOTH, by="key", threads=True, readers=(2, 0)),),
    "drop not heard, drop with a lost reply": (Setup(readers=(2, 0)), ("fail", "l2"), ("lose", "l2")),
    "Redis restarted empty": (Setup(by="key"), ("restart", "l2")),
    "tag evicted": (Setup(), ("evict", ("l2", TAG))),
    "two writers": (Setup(readers=(1, 1), writers=(1, 1)),),
    "an hour between": (Setup(readers=(0, 2), by="key"), ("tick", 3601.0)),
    "halves of the trust": (Setup(readers=(0, 2)), ("tick", 0.6), ("tick", 0.6)),
    "halves of the trust, no bytes": (Setup(readers=(0, 2), storable=False), ("tick", 0.6), ("tick", 0.6)),
    "halves of the trust, memory alone": (Setup(readers=(0, 2), names=()), ("tick", 0.6), ("tick", 0.6)),
    "clocks apart, Redis gone": (Setup(levels=BOTH, skews=(0.0, 33.0)), ("gone", "l2"), ("tick", 61.0)),
    "a clock ahead, Redis gone": (BEHIND._replace(skews=(3600.0,)), ("gone", "l2"), ("tick", 61.0)),
    "a drop by key, a clock behind": (BEHIND._replace(by="key"), ("gone", "l2"), ("tick", 61.0), ("lose", "l2")),
    "put, cold": (Setup(by="put", warm=False),),
    "put, memcached alone": (Setup(by="put", levels=("l3",)),),
    "put, both, Redis away": (Setup(by="put", levels=BOTH, readers=(1, 0)), ("down", "l2")),
    "put not heard": (Setup(by="put"), ("fail", "l2")),
    "put with a lost reply": (Setup(by="put"), ("lose", "l2")),
    "put, value evicted": (Setup(by="put"), ("evict", ("l2", KEY))),
    "put, fence evicted": (Setup(by="put"), ("evict", ("l2", FENCE))),
    "put, a while later": (Setup(by="put", readers=(0, 2)), ("tick", 1.2)),
    "put and heard": (Setup(by="put", readers=(0, 1), hears=(1,), filled=True),),
    "put, told during a load": (Setup(by="put", readers=(0, 1), hears=(1,)), ("tick", 1.2), ("cut", 1)),
    "own put is told": (Setup(by="put", hears=(0,), readers=(1, 0)), ("tick", 1.2)),
    "two put here": (Setup(by="put", readers=(1,), writers=(2,)),),
    "two put, a while later": (Setup(by="put", readers=(0, 1), writers=(1, 1)), ("tick", 1.2)),
    "three readers": (Setup(readers=(1, 2)),),
    "three readers by key": (Setup(readers=(1, 2), by="key"),),
    "two writers here": (Setup(readers=(2,), writers=(2,)), ("fail", "l2")),
    "two writers, lost reply": (Setup(readers=(1, 0), writers=(1, 1)), ("lose", "l2")),
    "faults on both": (Setup(levels=BOTH, by="key"), ("fail", "l2"), ("lose", "l3")),
    "Redis away while memcached answers": (Setup(levels=BOTH, readers=(2, 0)), ("down", "l2")),
    "Redis gone, tombstone too": (Setup(levels=BOTH, by="key"), ("gone", "l2"), ("tick", 61.0)),
    "memcached alone, tombstone gone": (Setup(levels=("l3",), by="key"), ("tick", 61.0)),
    "memcached alone, tombstone evicted": (Setup(levels=("l3",), by="key"), ("evict", ("l3", KEY))),
    "memcached restarted empty": (Setup(levels=BOTH, by="key"), ("restart", "l3")),
    "everything evicted": (Setup(), ("evict", ("l2", EVERYTHING)), ("evict", ("l2", KEY))),
    "fence evicted, both": (Setup(levels=BOTH, by="key"), ("evict", ("l2", FENCE))),
    "restart with debt": (Setup(), ("fail", "l2"), ("restart", "l2")),
    "a start, and a while later": (Setup(readers=(0, 2), starts=True), ("tick", 1.2)),
    "a start by key": (Setup(readers=(0, 2), by="key", starts=True), ("tick", 1.2)),
    "a start, and a drop by key here": (Setup(readers=(3,), writers=(1,), by="key", starts=True),),
    "a start that hears a drop": (Setup(readers=(0, 2), hears=(1,), starts=True), ("tick", 1.2), ("cut", 1)),
    "a start, drop not heard": (Setup(readers=(0, 1), starts=True), ("fail", "l2")),
}


@pytest.mark.parametrize("system", [System(setup, tuple(events)) for setup, *events in QUICK.values()], ids=QUICK)
def test_promises_hold_on_every_schedule(system):
    """No schedule hands out anything older than promised: here at once, elsewhere within the trust."""
    system.outcome().check_kept()


@pytest.mark.skipif(os.environ.get("SMW_COHERENCE") != "full", reason="SMW_COHERENCE=full takes minutes")
@pytest.mark.parametrize("name", FULL)
def test_promises_hold_on_every_schedule_of_larger_systems(name):
    """The same with more readers, writers, faults and time."""
    faulthandler.cancel_dump_traceback_later()  # some take longer than a test may
    setup, *events = FULL[name]
    System(setup, tuple(events), traced=False).outcome().check_kept()


@pytest.mark.parametrize(
    "system", [System(Setup(levels=("l2",), naive=True)), System(Setup(levels=("l3",), naive=True))]
)
def test_the_search_finds_what_comparing_nothing_breaks(system):
    """A cache that compares nothing is caught, so that silence means something."""
    system.outcome().check_caught("here")


@pytest.mark.parametrize("system", [System(Setup(readers=(0, 2), trust_s=1e9), (("tick", 1.2),))], ids=[""])
def test_the_search_finds_a_trust_that_never_ends(system):
    """Memory that is trusted for ever is caught, which shows that what is promised elsewhere is looked at too."""
    system.outcome().check_caught("elsewhere")


@pytest.mark.parametrize("system", [System(HEARD._replace(deaf=True), (PULSE, ("tick", 1.2), ("cut", 1)))], ids=[""])
def test_the_search_finds_a_trust_that_messages_prolong_blindly(system):
    """Memory that takes a pulse for proof, whether or not the messages came, is caught."""
    system.outcome().check_caught("elsewhere")


@pytest.mark.parametrize("system", [System(BEHIND._replace(vain=True), (("gone", "l2"), ("tick", 61.0)))], ids=[""])
def test_the_search_finds_values_that_are_dated_by_the_clock_of_a_process(system):
    """A process whose clock is behind, and that judges by it, takes what it has dropped for young."""
    system.outcome().check_caught("here")


@pytest.mark.parametrize("system", [System(Setup(readers=(2,), starts=True, lax=True, writers=(1,)))], ids=[""])
def test_the_search_finds_a_start_that_keeps_what_was_dropped_meanwhile(system):
    """Memory that is filled with what was read before a drop is caught."""
    system.outcome().check_caught("here")


@pytest.mark.parametrize("system", [System(ASTRAY, (PULSE, ("tick", 1.2), ("miss", 1)))], ids=[""])
def test_the_search_finds_a_trust_in_the_messages_of_another_shard(system):
    """Memory that is judged by what a shard tells that has not the key is caught."""
    system.outcome().check_caught("elsewhere")
