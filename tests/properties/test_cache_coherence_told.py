"""The coherence that is promised of results that tell their own tags, on every schedule of small systems."""

from __future__ import annotations

import faulthandler
import os
from functools import partial
from typing import Any

import pytest

from smw.cache.coherence.backplane import Backplane
from smw.cache.coherence.resulting import ResultTags
from tests.properties.coherence_process import EVERYTHING, KEY, TAG, TTL_S, Process, Setup, Steps, frozen
from tests.properties.coherence_search import Search
from tests.properties.coherence_servers import Request


class Names:
    """Knows one tag."""

    def tag(self, _text: str) -> str:
        return TAG


class Teller(Process):
    """A process whose results tell the tag by which they are dropped; which one is known once they are loaded."""

    def __init__(self, number: int, setup: Setup, *, is_heedless: bool) -> None:
        super().__init__(number, setup)
        self.place = self.place._replace(tags=(EVERYTHING,), scopes=(KEY, EVERYTHING))
        self.tags = ResultTags([_told], self.engine, Names(), lives_s=TTL_S)
        for level, plane in self.planes.values():
            plane.attended(_nothing, partial(_pulse, level))
            plane._heard_up_to = partial(_has_heard, plane)
            if is_heedless:
                plane.knows_all_since = _believes

    async def _reader(self, _start: Any) -> tuple[str, int]:
        async def load() -> Any:
            return await Request("load")

        place, load_told = self.tags.around(self.place, load, "async")
        finding = await self.engine.obtain(place, self.policy, load_told, "async")
        return finding.level, finding.take()[1]

    def state(self) -> Any:
        entry = self.table.get("k")
        basis = entry and entry.basis
        told = basis and (basis.depends, tuple(basis.scopes), basis.asked, basis.lacks, basis.is_kept)
        return (*super().state(), frozen(told))


class Told(Search):
    """All schedules of processes whose results tell their tag."""

    def __init__(self, setup: Setup, events: tuple[tuple[str, Any], ...] = (), *, is_heedless: bool = False) -> None:
        super().__init__(setup, events)
        self.steps = [
            Steps(partial(Teller, number, setup, is_heedless=is_heedless)) for number in range(len(setup.readers))
        ]

    def _may_begin(self, world: Any, index: int, process: int, name: str) -> bool:
        """Have one reader begin at any time, and the others when there is something that they must not see."""
        if name.startswith("reader") and index != self.readers[0] and not world.returned:
            return False
        return super()._may_begin(world, index, process, name)


def _told(_result: Any) -> str:
    return "a"


def _nothing() -> None:
    return


async def _pulse(level, *, budget, mode):
    return await level.ask(level.store.pulse, budget=budget, mode=mode)


async def _has_heard(plane: Backplane, number: int, _timeout_s: float, _mode: str) -> bool:
    """Tell what has been heard; that it comes while one waits is the schedule in which it was heard before."""
    return plane._heard is not None and plane._heard >= number


async def _believes(*_args: Any, **_how: Any) -> bool:
    return True


ALONE = Setup(readers=(1, 0), writers=(0, 1), hears=(0,))
UNHEARD = ALONE._replace(hears=(1,))
QUICK = {"a drop elsewhere": (ALONE._replace(readers=(1, 1)),)}
FULL = {
    "a drop elsewhere, cold": (ALONE._replace(warm=False), ("tick", 1.2)),
    "a drop elsewhere, lost on its way": (ALONE._replace(readers=(2, 0)), ("tick", 1.2), ("cut", 0)),
    "a drop elsewhere, not heard": (UNHEARD._replace(readers=(2, 0), warm=False), ("tick", 1.2)),
    "a drop here": (Setup(readers=(2, 0), writers=(1, 0), hears=(0,)),),
    "cold, read elsewhere": (ALONE._replace(readers=(1, 1), warm=False), ("tick", 1.2)),
    "not heard, read elsewhere": (UNHEARD._replace(readers=(1, 1)), ("tick", 1.2)),
    "a pulse between": (ALONE._replace(readers=(2, 0)), ("pulse", 0), ("tick", 1.2), ("cut", 0)),
    "its counter evicted": (ALONE._replace(readers=(1, 1)), ("evict", ("l2", TAG))),
    "a drop not acknowledged": (ALONE._replace(readers=(1, 1)), ("fail", "l2")),
    "a drop with a lost reply": (ALONE._replace(readers=(1, 1)), ("lose", "l2")),
    "restarted empty": (ALONE._replace(readers=(1, 1)), ("restart", "l2")),
    "fail-over": (ALONE._replace(readers=(1, 1)), ("pulse", 0), ("tick", 1.2), ("lag", "l2")),
    "memory alone": (ALONE._replace(readers=(2, 0), names=()), ("tick", 1.2), ("cut", 0)),
    "both levels": (ALONE._replace(readers=(1, 1), levels=("l2", "l3")),),
}


@pytest.mark.parametrize("name", QUICK)
def test_promises_hold_on_every_schedule(name):
    """No schedule hands out anything older than promised, although nobody knew the tag when it was dropped."""
    setup, *events = QUICK[name]
    Told(setup, tuple(events)).run().check_kept()


@pytest.mark.skipif(os.environ.get("SMW_COHERENCE") != "full", reason="SMW_COHERENCE=full takes minutes")
@pytest.mark.parametrize("name", FULL)
def test_promises_hold_on_every_schedule_of_larger_systems(name):
    """The same with more readers, faults and time."""
    faulthandler.cancel_dump_traceback_later()  # some take longer than a test may
    setup, *events = FULL[name]
    Told(setup, tuple(events)).run(traced=False).check_kept()


def test_the_search_finds_a_drop_that_nobody_looks_for():
    """A cache that reads the counters after the load, and asks nobody what was dropped before, is caught."""
    Told(UNHEARD._replace(readers=(1, 1)), is_heedless=True).run().check_caught("here")
