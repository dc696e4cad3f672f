"""Results that are not what they seem: each call returns, and what cannot be kept exactly is not kept."""

# ruff: noqa: PLW0108 - what is decorated must be a plain function
from __future__ import annotations

import asyncio
import functools
import logging
import threading
from dataclasses import dataclass
from unittest.mock import MagicMock

import pytest
import wrapt

from smw.cache.values.copies import survey


@dataclass(frozen=True)
class Album:
    number: int

    @functools.cached_property
    def tracks(self) -> list[int]:
        return [self.number]


@dataclass(frozen=True)
class Indexed:
    number: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {})


@dataclass(frozen=True)
class Memo:
    __slots__ = ("memo", "number")
    number: int


@dataclass(frozen=True, slots=True)
class Tight:
    number: int


class Liar:
    @property
    def __class__(self):
        raise RuntimeError("no class")


class Meta(type):
    def __getattr__(cls, name):
        raise RuntimeError(name)


class Asked(metaclass=Meta):
    pass


class Holder:
    """Hides a lock, as a client or a session does."""

    def __init__(self) -> None:
        self.parts = {"lock": asyncio.Lock()}


def test_frozen_dataclass_with_a_cached_property_is_not_shared(cache):
    """What a caller changes in a cached property of a frozen dataclass stays its own."""
    load = cache.cached(60)(lambda number: Album(number))
    load(1).tracks.append(2)
    load(1).tracks.append(3)
    assert load(1).tracks == [1]


def test_frozen_dataclass_with_attributes_past_the_freeze_is_not_shared(cache):
    """What a caller changes in an attribute that is no field stays its own."""
    load = cache.cached(60)(lambda number: Indexed(number))
    for _ in range(3):
        found = load(1)
        assert found.index == {}
        found.index["spoilt"] = True


def test_frozen_dataclass_is_shared_where_it_has_room_for_fields_alone():
    """Slots that are all fields leave no room for anything changeable; one more slot does."""
    assert not survey(Tight(1)).foreign
    assert survey(Memo(1)).foreign
    assert survey(Album(1)).foreign


@pytest.mark.parametrize(
    "make",
    [
        asyncio.Lock, asyncio.Queue, asyncio.Event, lambda: asyncio.Semaphore(2), asyncio.Condition, Holder,
        threading.Lock, threading.Event, lambda: {"lock": asyncio.Lock()}, lambda: [Holder()],
    ],
)  # fmt: skip
def test_what_binds_its_holders_together_is_never_copied(cache, caplog, make):
    """A lock, a queue or what holds one, however deep, is returned and not kept, with one warning."""
    made = []

    @cache.cached(60)
    def load() -> object:
        made.append(make())
        return made[-1]

    with caplog.at_level(logging.WARNING, "smw.cache"):
        results = [load() for _ in range(3)]
    assert all(one is other for one, other in zip(results, made, strict=True))
    assert len(caplog.records) == 1


async def test_a_future_is_never_copied(cache):
    """A future as a result reaches its caller as it is, wherever it sits."""
    made = []

    @cache.cached(60)
    async def load() -> object:
        made.append({"future": asyncio.get_running_loop().create_future()})
        return made[-1]

    assert [await load(), await load()] == made


@pytest.mark.parametrize("levels", [(), ("l2",)])
@pytest.mark.parametrize(
    "make",
    [
        Liar, Asked, lambda: [Liar()], lambda: {"k": Asked()}, lambda: wrapt.ObjectProxy({"a": 1}),
        lambda: wrapt.ObjectProxy([[1]]), lambda: MagicMock(spec=dict), lambda: MagicMock(spec=str),
        lambda: MagicMock(spec=list), lambda: {"k": wrapt.ObjectProxy([1])},
    ],
)  # fmt: skip
def test_results_that_lie_about_their_class_reach_their_caller(bench, make, levels):
    """A proxy, a mock or a class that raises when asked fails no call and changes no type, with servers and without."""
    load = bench.cache(*levels).cached(60)(lambda: make())
    kinds = {type(load()).__name__ for _ in range(3)}
    assert kinds == {type(make()).__name__}


class Shifting(dict):
    """Changes while somebody goes through it, as another thread would change it."""

    def __deepcopy__(self, memo):
        raise RuntimeError("dictionary changed size during iteration")


@pytest.mark.parametrize("levels", [(), ("l2",)])
def test_result_that_changes_meanwhile_is_returned_uncached(bench, caplog, monkeypatch, levels):
    """A result that another thread changes while it is looked at reaches its caller, with one warning."""

    def walk(self, value, depth):
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr("smw.cache.values.copies.Survey.walk", walk)
    load = bench.cache(*levels).cached(60)(lambda: Shifting(a=1))
    with caplog.at_level(logging.WARNING, "smw.cache"):
        assert [load(), load()] == [{"a": 1}, {"a": 1}]
    assert len({record.getMessage() for record in caplog.records}) == len(caplog.records) >= 1


def test_survey_of_what_changes_meanwhile_claims_nothing(monkeypatch):
    """A walk that fails tells that it saw only a part."""
    monkeypatch.setattr("smw.cache.values.copies._sizeof", lambda _value: [].pop())
    found = survey({"a": 1})
    assert (found.foreign, found.cut) == (True, True)


class Order:
    """Its owner is not to be had, as after the end of a session."""

    def __cache_key__(self) -> int:
        return 1

    @property
    def owner(self) -> str:
        raise ValueError("session is closed")


def test_tag_whose_property_fails_leaves_the_call_uncached(cache, caplog):
    """A field of a tag that raises fails no call; the result is not kept, since nothing could drop it."""
    runs = []

    @cache.cached(60, tags=["user:{order.owner}"])
    def total(order: Order) -> int:
        runs.append(order)
        return 42

    with caplog.at_level(logging.WARNING, "smw.cache"):
        assert [total(Order()), total(Order())] == [42, 42]
    assert len(runs) == 2
    assert len(caplog.records) == 1
    assert "order.owner: ValueError" in caplog.text


@pytest.mark.parametrize("counter", [-5, 2**64 + 5])
def test_foreign_counters_fail_no_call(bench, counter):
    """A counter that somebody else has set to nonsense makes misses, not errors."""
    bench.cache("l2").cached(60)(lambda: "value")()
    counters = bench.stores["l2"].counters
    counters.update(dict.fromkeys(counters, counter))
    load = bench.cache("l2").cached(60)(lambda: "value")
    assert [load(), load()] == ["value", "value"]
