"""The coherence that is promised where one process loads for all, on every schedule of small systems.

Nothing older than promised is handed out, two processes never load under the same counters at once, and nobody waits
for ever. ``SMW_COHERENCE=full`` searches the larger systems too, which takes minutes.
"""

from __future__ import annotations

import faulthandler
import os

import pytest

from tests.properties.coherence_ahead import System
from tests.properties.coherence_process import Setup

TWO = Setup(leases=True, readers=(1, 1), writers=(0, 0))
HERE = TWO._replace(readers=(1, 2), writers=(0, 1), late=(0, 1))
THERE = TWO._replace(readers=(1, 2), writers=(1, 0), late=(0, 1))
THREE = TWO._replace(readers=(1, 2, 1), writers=(0, 1, 0), late=(0, 1, 1), awaited=True, by="key")
EXPIRES = ("tick", 1.4)
QUICK = {
    "a load that fails, news that is lost, a lease that expires": (TWO, ("raise", 0), ("miss", 1), ("cut", 1), EXPIRES),
    "a drop by key before who waits": (TWO._replace(writers=(0, 1), late=(0, 1), by="key"),),
    "a drop by tag under who waits": (TWO._replace(writers=(0, 1), awaited=True),),
    "a drop by key under who waits, and reads": (TWO._replace(writers=(0, 1), awaited=True, by="key", enclosed=False),),
}
FULL = {
    "a drop by tag elsewhere, a while later": (TWO._replace(writers=(1, 0), awaited=True), ("tick", 1.2)),
    "a put under who waits": (TWO._replace(writers=(0, 1), awaited=True, by="put"),),
    "a drop that is told": (TWO._replace(writers=(1, 0), hears=(1,), awaited=True), ("pulse", 1), ("tick", 1.2)),
    "a drop at a shard": (TWO._replace(writers=(1, 0), shards=("other", "l2"), awaited=True), ("tick", 1.2)),
    "a drop of three, one of which leads anew": (THREE,),
    "a drop by tag": (TWO._replace(writers=(0, 1)),),
    "a drop by key, and a call after": (HERE._replace(by="key"),),
    "a drop by tag elsewhere, and a call after": (THERE._replace(awaited=True), ("tick", 1.2)),
    "a lease that expires under a drop": (THERE._replace(awaited=True), EXPIRES),
    "a load that fails under a drop": (HERE._replace(awaited=True), ("raise", 0), ("raise", 1)),
    "a drop not heard": (HERE._replace(awaited=True), ("fail", "l2")),
}
FLAWS = {
    "epoch": ("here", HERE._replace(awaited=True, by="key", flaw="epoch")),
    "fill": ("here", HERE._replace(awaited=True, by="key", flaw="fill")),
    "mute": ("together", HERE._replace(awaited=True, by="key", flaw="mute")),
    "sent": ("here", THREE._replace(flaw="sent")),
}
LARGE_FLAWS = {
    "owner": ("together", THREE._replace(flaw="owner")),
    "asked": ("elsewhere", THERE._replace(awaited=True, flaw="asked"), ("tick", 1.2)),
}
full = pytest.mark.skipif(os.environ.get("SMW_COHERENCE") != "full", reason="SMW_COHERENCE=full takes minutes")


@pytest.mark.parametrize("system", [System(setup, tuple(events)) for setup, *events in QUICK.values()], ids=QUICK)
def test_one_load_for_all_hands_out_nothing_old(system):
    """No schedule hands out anything older than promised, loads twice at once, or leaves somebody waiting."""
    system.outcome().check_kept()


@full
@pytest.mark.parametrize("name", FULL)
def test_one_load_for_all_hands_out_nothing_old_in_larger_systems(name):
    """The same with more callers, faults and time."""
    faulthandler.cancel_dump_traceback_later()  # some take longer than a test may
    setup, *events = FULL[name]
    System(setup, tuple(events), traced=False).outcome().check_kept()


@pytest.mark.parametrize(
    ("promise", "system"),
    [(promise, System(setup, tuple(events), traced=False)) for promise, setup, *events in FLAWS.values()],
    ids=FLAWS,
)
def test_the_search_finds_the_flaws_of_a_fleet(promise, system):
    """A fleet that takes, keeps or stores what it should not, or tells nobody, is caught."""
    system.outcome().check_caught(promise)


@full
@pytest.mark.parametrize("flaw", LARGE_FLAWS)
def test_the_search_finds_the_flaws_of_a_fleet_in_larger_systems(flaw):
    """A fleet that ends the leases of others, or trusts what it was sent for too long, is caught."""
    promise, setup, *events = LARGE_FLAWS[flaw]
    System(setup, tuple(events), traced=False).outcome().check_caught(promise)
