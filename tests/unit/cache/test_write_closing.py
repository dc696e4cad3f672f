"""Closing a cache brings what was acknowledged to its source, also one that fails for a moment, and has a bound."""

from __future__ import annotations

import asyncio

from smw._kernel.clock import SystemClock
from tests.unit.cache.test_write_back import MODES, called, patient, where

__all__ = ["patient", "where"]


class Down:
    """Raises at the first calls for each key, then no more."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.done: dict[int, str] = {}
        self.calls: list[int] = []

    def write(self, user_id: int, name: str) -> None:
        self.calls.append(user_id)
        if self.calls.count(user_id) <= self.times:
            raise OSError
        self.done[user_id] = name


def writer(cache, source, mode):
    """Return a function that acknowledges writes to `source`."""

    def read(user_id: int) -> str:
        return "?"

    async def read_async(user_id: int) -> str:
        return "?"

    async def write_async(user_id: int, name: str) -> None:
        source.write(user_id, name)

    def write(user_id: int, name: str) -> None:
        source.write(user_id, name)

    get = cache.cached(60)(read if mode == "sync" else read_async)
    back = cache.writes(get, strategy="write_back", value=lambda _result, arguments: arguments["name"])
    return back(write if mode == "sync" else write_async)


@MODES
async def test_closing_tries_again_what_fails(bench, where, mode, monkeypatch):
    """After the usual pauses, until it is done or closing has taken as long as it may."""
    monkeypatch.setattr(bench, "clock", SystemClock())
    cache, source = bench.cache(**where, drain_s=60), Down(2)
    put = writer(cache, source, mode)
    for number in range(3):
        await called(put(number, "Eve"))
    await cache.aclose()
    assert source.done == dict.fromkeys(range(3), "Eve")


def test_closing_does_what_loops_that_have_ended_have_left(bench, where, monkeypatch):
    """Where no event loop goes on one is made for it."""
    monkeypatch.setattr(bench, "clock", SystemClock())
    cache, source = bench.cache(**where, drain_s=60), Down(1)
    put = writer(cache, source, "async")
    asyncio.run(put(1, "Eve"))
    assert source.done == {}
    idle = asyncio.new_event_loop()
    idle.run_until_complete(put(2, "Bob"))
    cache.close()
    idle.run_until_complete(idle.shutdown_asyncgens())
    idle.close()
    assert source.done == {1: "Eve", 2: "Bob"}
