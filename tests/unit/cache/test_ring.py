"""A key is changed process by process: what each step costs, on every level, and that drops are heard meanwhile."""

from __future__ import annotations

import pytest

from smw._kernel.signals import CacheTampered
from tests.unit.cache.shapes import SHAPES, Shaped

OLD, NEW = {"2025-11": b"1" * 32}, {"2026-05": b"2" * 32}
BOTH = NEW | OLD
LEVELS = [("l2",), ("l3",), ("l2", "l3")]


class Fleet:
    """Processes that share servers and a source, each with a ring of its own."""

    def __init__(self, bench, levels, shape) -> None:
        self._bench, self._levels, self._shape = bench, levels, shape
        self.loads = 0
        self.value = "old"

    def process(self, ring: dict[str, bytes]) -> Shaped:
        cache = self._bench.cache(*self._levels, encryption_keys=ring, l1_size=0)
        return Shaped(cache, self._shape, self._load, tags=["t"])

    def _load(self, number: int) -> str:
        self.loads += 1
        return f"{self.value} {number}"

    async def loaded_by(self, *processes: Shaped) -> int:
        """Return how often the source was read while each process asked for the same result."""
        before = self.loads
        assert {await process() for process in processes} == {f"{self.value} 1"}
        return self.loads - before


@pytest.fixture(params=LEVELS, ids="-".join)
def levels(request):
    return request.param


@pytest.fixture(params=SHAPES, ids="-".join)
def fleet(bench, levels, request):
    return Fleet(bench, levels, request.param)


async def test_who_has_the_new_key_first_finds_what_the_others_have_sealed(fleet):
    """The first process with the new ring loads nothing anew, and nor do the others because of it."""
    before, first = fleet.process(OLD), fleet.process(BOTH)
    assert await fleet.loaded_by(before) == 1
    assert await fleet.loaded_by(first, before, first) == 0
    assert first.key() == before.key()


async def test_what_the_new_key_has_sealed_costs_the_others_one_load(fleet):
    """Who does not know the new key yet loads once for all that are in that state; then everybody has a hit."""
    first, late, later = fleet.process(BOTH), fleet.process(OLD), fleet.process(OLD)
    assert await fleet.loaded_by(first) == 1
    assert await fleet.loaded_by(late, later, first, late) == 1
    assert [each.cache.recorded.of(CacheTampered) for each in (first, late, later)] == [[], [], []]


async def test_once_everybody_has_the_new_key_nothing_is_missed(fleet):
    """Values of both keys are hits for every process, however long the old one stays in the ring."""
    await fleet.process(OLD)()
    processes = [fleet.process(BOTH) for _ in range(3)]
    assert await fleet.loaded_by(*processes) == 0
    processes[0].cache.drop_sync(tags=["t"])
    assert await fleet.loaded_by(*processes) == 1


@pytest.mark.parametrize("by", ["tag", "key"])
@pytest.mark.parametrize(("dropping", "reading"), [(OLD, BOTH), (BOTH, OLD)])
async def test_drops_are_heard_while_a_key_is_rolled_out(fleet, dropping, reading, by):
    """Whichever ring a process has, what another one drops is not handed out any more."""
    one, other = fleet.process(dropping), fleet.process(reading)
    await one()
    await other()
    fleet.value = "new"
    one.cache.drop_sync(**({"tags": ["t"]} if by == "tag" else {"keys": [one.key()]}))
    assert await other() == "new 1"
    assert await one() == "new 1"


@pytest.mark.parametrize("ring", [NEW, OLD | NEW], ids=["old key taken away", "new key behind the old one"])
async def test_another_last_key_gives_everything_a_new_name(fleet, ring):
    """The last key makes the names, so another one there is a cold cache: no value is found, and no drop is heard."""
    before, after = fleet.process(OLD), fleet.process(ring)
    assert await fleet.loaded_by(before, after) == 2
    assert before.key() != after.key()
    before.cache.drop_sync(tags=["t"])
    assert await fleet.loaded_by(after) == 0
