"""Who is asked to replace a value, what is settled by the answer, and what slower levels get of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import pytest

from smw.cache.levels.level import run_blocking
from smw.cache.levels.swapping import can_swap, insist, swap
from smw.cache.naming.names import fence_of
from smw.cache.ports import Found, Versions
from smw.testing import FakeClock

KEY = "smw:shop:0"
HOW = {"budget": "budget", "mode": "sync"}


class Note(NamedTuple):
    fence: int = 3
    generations: tuple[int, ...] = (8,)

    def usable_s(self, now: float) -> float:
        return now - 940.0


class Level:
    """A level whose server answers what it is told to, and everything that is said to it."""

    def __init__(self, name: str, **answers) -> None:
        self.name, self.answers, self.said = name, answers, []
        self.covered: tuple[str, ...] = ()
        self.store = SimpleNamespace(replace="replace", read="read", write="write")
        self.receipts = SimpleNamespace(note=lambda *args, **more: self.said.append(("note", *args, more)))
        self.debt = SimpleNamespace(settle=lambda owed: self.said.append(("settle", owed)), covers=self._covers)

    def of(self, key: str):
        assert key == KEY
        return self

    def _covers(self, scopes) -> bool:
        return bool(set(scopes) & set(self.covered))

    def wake(self) -> None:
        self.said.append("wake")

    async def ask(self, what, *args, budget, mode, **more):
        assert (budget, mode) == ("budget", "sync")
        self.said.append((what, *args, more))
        answer = self.answers.get(what)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def remote(*levels, caps_s=None):
    made = SimpleNamespace(tiers=levels, caps_s=caps_s or {}, dropped=[])
    made.time_of = lambda _key: SimpleNamespace(now=lambda: 1_000.0)
    made.made = lambda _key, _letter: 55.0
    made.envelope = SimpleNamespace(close=lambda letter, bound: (letter.fence, bound))

    async def drop(owed, *, budget, mode) -> None:
        assert (budget, mode) == ("budget", "sync")
        made.dropped.extend(owed)

    made.drop = drop
    return made


def swapped(servers, sight, names=("l2", "l3")) -> bool:
    owed = [(level, f"owed-{level.name}") for level in reversed(servers.tiers)]
    more = {"names": names, "owed": owed, "clock": FakeClock(now=9.0), **HOW}
    return run_blocking(swap(servers, sight, Note(), KEY, ["t"], **more))


def request(life_s: float):
    found = Found(None, (3, 8))
    return ("replace", KEY, (3, KEY.encode()), life_s, {"counters": (fence_of(KEY), "t"), "found": found})


@pytest.fixture
def sight():
    return SimpleNamespace(versions="before", asked=1.0)


@pytest.mark.parametrize(("cap_s", "life_s"), [(None, 60.0), (10.0, 10.0), (90.0, 60.0)])
def test_what_is_replaced_is_settled_and_slower_levels_get_it(sight, cap_s, life_s):
    """Under the number that the first one has given it, and nowhere for longer than the level keeps anything."""
    first, second = Level("l2", replace=5), Level("l3", read="found")
    caps_s = {} if cap_s is None else {"l2": cap_s, "l3": cap_s}
    servers = remote(first, second, caps_s=caps_s)
    assert swapped(servers, sight)
    assert first.said == [request(life_s), ("note", "owed-l2", (5,), {"until": 55.0}), ("settle", "owed-l2")]
    assert (sight.versions, sight.asked) == (Versions(5, (8,)), 9.0)
    assert servers.dropped == [(second, "owed-l3")]
    told = {"counters": (), "found": "found"}
    assert second.said == [("read", KEY, (), {}), ("write", KEY, (5, KEY.encode()), life_s, told)]


def test_the_first_number_of_all_is_one(sight):
    """A key that was never dropped has none before."""
    first = Level("l2", replace=1)
    assert swapped(remote(first), sight)
    assert first.said[1] == ("note", "owed-l2", (1,), {"until": 55.0})


@pytest.mark.parametrize("why", ["owed", "no answer", "not its own"])
def test_a_slower_level_that_may_not_have_dropped_the_old_value_gets_none(sight, why):
    """Nor does one that has not answered, or that keeps no such values; those behind it do."""
    second, third = Level("l3", read=None if why == "no answer" else "found"), Level("l4", read="found")
    if why == "owed":
        second.covered = (KEY,)
    names = ("l2", "l4") if why == "not its own" else ("l2", "l3", "l4")
    assert swapped(remote(Level("l2", replace=5), second, third), sight, names)
    assert [each[0] for each in second.said] == (["read"] if why == "no answer" else [])
    assert [each[0] for each in third.said] == ["read", "write"]


@pytest.mark.parametrize(("answer", "shown"), [(-6, Versions(6, (8,))), (0, None)])
def test_where_something_has_changed_nothing_is_stored(sight, answer, shown):
    """The drop is made all the same, and counts from now on for whatever was made until then."""
    first, second = Level("l2", replace=answer), Level("l3", read="found")
    servers = remote(first, second)
    assert not swapped(servers, sight)
    assert first.said[1:] == [("note", "owed-l2", (-answer,), {"until": None}), ("settle", "owed-l2")]
    assert (sight.versions, servers.dropped, second.said) == (shown, [(second, "owed-l3")], [])


@pytest.mark.parametrize("answer", [None, KeyboardInterrupt()])
def test_what_was_not_acknowledged_stays_owed(sight, answer):
    """It is paid in the background, also where the caller was interrupted."""
    first = Level("l2", replace=answer)
    servers = remote(first, Level("l3"))
    if answer is None:
        assert not swapped(servers, sight)
        assert sight.versions is None
    else:
        with pytest.raises(KeyboardInterrupt):
            swapped(servers, sight)
    assert first.said[1:] == ["wake"]


@pytest.mark.parametrize(("cap_s", "life_s"), [(10.0, 10.0), (90.0, 60.0)])
def test_who_insists_stores_under_what_the_server_has_shown(sight, cap_s, life_s):
    """Where it has shown nothing, nothing is asked of it."""
    first = Level("l2")
    servers = remote(first, caps_s={"l2": cap_s})
    for versions in (None, Versions(None, (8,))):
        sight.versions = versions
        run_blocking(insist(servers, sight, Note(), KEY, ["t"], **HOW))
    assert first.said == []
    sight.versions = Versions(6, (8,))
    run_blocking(insist(servers, sight, Note(), KEY, ["t"], **HOW))
    told = {"counters": (fence_of(KEY), "t"), "found": Found(None, (6, 8))}
    assert first.said == [("write", KEY, (6, KEY.encode()), life_s, told)]


def test_only_the_level_of_the_counters_can_replace_and_only_what_it_keeps():
    """A store that cannot, or a function that does not use it, has the value dropped instead."""
    servers = remote(Level("l2"))
    servers.tiers[0].store = SimpleNamespace()
    assert not can_swap(servers, KEY, ["l2"])
    servers.tiers[0].store.replace = lambda: None
    assert (can_swap(servers, KEY, ["l2"]), can_swap(servers, KEY, ["l3"])) == (True, False)
