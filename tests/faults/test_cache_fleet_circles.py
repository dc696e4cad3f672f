"""Loads of several processes that need each other are told so at once, and those that do not are left alone."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid

import pytest

from smw._kernel.flight import RecursiveLoadError
from smw.cache import Cache, get_many_sync
from tests.faults.test_cache_backplane import until

pytestmark = [pytest.mark.service("redis"), pytest.mark.timed]
AT_ONCE_S = 4.0
"""Far from the ten seconds that a wait may last, on a busy machine too."""


class Member:
    """A cache as one of several processes has it: three functions, each of which calls the next one."""

    def __init__(self, url: str, namespace: str, begun: threading.Barrier, *, ends: bool) -> None:
        self.cache = Cache(namespace=namespace, l2_url=url, budget_ms=1000)
        self.loads: list[str] = []
        self._begun = begun
        self.fns, self.awaited, self.lots = {}, {}, {}
        for name, following in (("a", "b"), ("b", "c"), ("c", None if ends else "a")):
            self._define(name, following)

    def _define(self, name: str, following: str | None) -> None:
        def now(key: int) -> str:
            self.begin(name)
            return name + (self.fns[following](key) if following else "")

        async def later(key: int) -> str:
            await asyncio.to_thread(self.begin, name)
            return name + (await self.awaited[following](key) if following else "")

        def many(keys) -> list[str]:
            self.begin(name)
            rest = get_many_sync(self.lots[following], keys) if following else [""] * len(keys)
            return [name + each for each in rest]

        now.__qualname__ = later.__qualname__ = name
        cached = self.cache.cached
        self.fns[name] = cached(60, key=lambda key: key)(now)
        self.awaited[name] = cached(60, key=lambda key: key, version="2")(later)
        self.lots[name] = cached(60, key=lambda key: key, version="3", many=many)(now)

    def begin(self, name: str) -> None:
        """Note a load; the first one of each member waits for those of the others."""
        self.loads.append(name)
        if len(self.loads) == 1:
            self._begun.wait(10)


@pytest.fixture
def members(redis_server):
    """Make so many caches of one namespace, whose first loads begin together."""
    namespace, made = f"t{uuid.uuid4().hex}", []

    def make(count: int, *, ends: bool) -> list[Member]:
        begun = threading.Barrier(count)
        made.extend(Member(redis_server.url, namespace, begun, ends=ends) for _ in range(count))
        for member in made:
            member.cache._listener.start()
        until(lambda: all(member.cache._listener.is_connected for member in made))
        return made

    yield make
    for member in made:
        member.cache.close()


def at_once(calls) -> tuple[list[object], float]:
    """Run calls in threads; returns what they returned or raised, and how long that took."""
    results: list[object] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            result = calls[number]()
            results[number] = asyncio.run(result) if asyncio.iscoroutine(result) else result
        except (RecursiveLoadError, threading.BrokenBarrierError) as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(25)
    return results, time.monotonic() - began


def calls_of(members: list[Member], kind: str):
    names = "abc"
    if kind == "many":
        return [lambda m=m, n=n: get_many_sync(m.lots[n], [1, 2]) for m, n in zip(members, names, strict=False)]
    return [lambda m=m, n=n: getattr(m, kind)[n](1) for m, n in zip(members, names, strict=False)]


@pytest.mark.parametrize("kind", ["fns", "awaited", "many"])
def test_three_that_need_each_other_are_told_so(members, kind):
    """Each of three processes loads what the next one needs: nobody waits until his patience ends."""
    fleet = members(3, ends=False)
    results, took = at_once(calls_of(fleet, kind))
    assert all(isinstance(result, RecursiveLoadError) for result in results), results
    assert took < AT_ONCE_S


@pytest.mark.parametrize("kind", ["fns", "awaited", "many"])
def test_a_chain_that_ends_is_waited_for(members, kind):
    """Where the last one needs nobody, each function runs in one process alone."""
    fleet = members(3, ends=True)
    results, took = at_once(calls_of(fleet, kind))
    expected = ["abc", "bc", "c"]
    assert results == ([[text] * 2 for text in expected] if kind == "many" else expected)
    assert [member.loads for member in fleet] == [["a"], ["b"], ["c"]]
    assert took < AT_ONCE_S
