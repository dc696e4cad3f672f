"""Coherence on every schedule of small systems that run the cache's own code: promises broken, schedules searched.

The model check of ``tests/properties``, of which systems on Redis are searched here; all others, and chaos on real
servers, are run by the session ``chaos``. The control compares nothing when it stores what it has loaded: the search
ends with the first promise that it finds broken, so that 1 means at least one. Schedules are what the search went
through, each an order of the steps of readers, a writer and its payer.
"""

from __future__ import annotations

from benchmarks._table import Row
from tests.properties.coherence_process import Setup
from tests.properties.coherence_search import Search
from tests.properties.test_cache_coherence import QUICK

NAME = "cache_coherence"
SYSTEMS = ("tag", "tag, cold", "key, cold", "put", "threads")
QUICK_SYSTEMS = ("tag", "key, cold")
BROKEN = "every schedule of small systems, promises broken"
SEARCHED = "every schedule of small systems, schedules"


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Search them, and the control."""
    broken, schedules = 0, 0.0
    for name in QUICK_SYSTEMS if quick else SYSTEMS:
        setup, *events = QUICK[name]
        outcome = Search(setup, tuple(events)).run(traced=False)
        broken += len(outcome.broken)
        schedules += outcome.schedules
    control = Search(Setup(naive=True)).run(traced=False)
    return [
        Row(BROKEN, "a fill that compares nothing (control)", float(len(control.broken)), "promises"),
        Row(BROKEN, "smw", float(broken), "promises", target="<= 0 promises"),
        Row(SEARCHED, "smw", schedules, "schedules"),
    ]
