"""A result that functions of several strategies write: what was acknowledged first reaches the source first."""

from __future__ import annotations

import asyncio
import logging

import pytest

from smw.cache.strategies import behind as behind_module
from tests.unit.cache.test_write_back import MODES, Users, called, patient, where

__all__ = ["patient", "where"]
STRATEGIES = pytest.mark.parametrize("strategy", ["write_through", "write_around"])


def direct(users, strategy):
    """Return a function that writes what `users` has acknowledged writes for, at once."""

    def write(user_id: int, name: str) -> dict:
        users.writes.append((user_id, name))
        users.names[user_id] = name
        return {"name": name}

    async def write_async(user_id: int, name: str) -> dict:
        await asyncio.sleep(0)
        return write(user_id, name)

    writes = users.cache.writes(users.get, strategy=strategy, arguments=lambda user_id, name: {"user_id": user_id})
    return writes(write if users.mode == "sync" else write_async)


@MODES
@STRATEGIES
async def test_a_write_waits_for_older_ones_of_its_result(bench, where, mode, strategy):
    """Otherwise the acknowledged one would replace it in the source, and readers would go on seeing the newer one."""
    users = Users(bench.cache(**where), mode)
    now = direct(users, strategy)
    await called(users.put(1, "Eve"))
    await called(now(2, "Ada"))
    assert users.writes == [(2, "Ada")]  # which has nobody before it
    await (asyncio.to_thread(now, 1, "Bob") if mode == "sync" else now(1, "Bob"))
    assert users.writes == [(2, "Ada"), (1, "Eve"), (1, "Bob")]
    assert await users.read(1) == "Bob"


async def test_a_blocking_write_does_not_hold_the_loop_that_has_to_do_the_older_one(bench, monkeypatch):
    """It goes ahead after a moment: the loop could do it only afterwards."""
    monkeypatch.setattr(behind_module, "_LOOK_S", 600.0)
    users = Users(bench.cache(), "async")

    @users.cache.writes(users.get, strategy="write_around")
    def now(user_id: int) -> None:
        users.writes.append((user_id, "now"))

    await users.put(1, "Eve")
    now(1)
    await users.drain()
    assert users.writes == [(1, "now"), (1, "Eve")]


@STRATEGIES
async def test_a_write_goes_ahead_of_an_older_one_that_cannot_be_done(bench, where, strategy, monkeypatch, caplog):
    """No call fails for it; one error tells, and readers see what the source will have in the end."""
    monkeypatch.setattr(behind_module, "_LOOK_S", 0.0)
    users = Users(bench.cache(**where))
    now = direct(users, strategy)
    users.failing = OSError("away")
    users.put(1, "Eve")
    with caplog.at_level(logging.ERROR, logger="smw.cache"):
        now(1, "Bob")
        now(1, "Bob")
    assert users.names == {1: "Bob"}
    assert sum("goes to its source before an older one" in record.message for record in caplog.records) == 1
    assert await users.read(1) == "Eve"
    users.failing = None
    bench.clock.advance(60)
    await users.drain()
    assert (users.names, await users.read(1)) == ({1: "Eve"}, "Eve")


@MODES
async def test_a_write_that_is_part_of_an_acknowledged_one_does_not_wait_for_it(bench, where, mode, monkeypatch):
    """The function that is done later may write by another one, whose write is not newer than itself."""
    monkeypatch.setattr(behind_module, "_LOOK_S", 600.0)
    users = Users(bench.cache(**where), mode)
    now = direct(users, "write_through")

    def value(_result: object, arguments: dict) -> dict:
        return {"name": arguments["name"]}

    back = users.cache.writes(users.get, strategy="write_back", value=value)

    def later(user_id: int, name: str) -> None:
        now(user_id, name)

    async def later_async(user_id: int, name: str) -> None:
        await now(user_id, name)

    await called(back(later if mode == "sync" else later_async)(1, "Eve"))
    await users.drain()
    assert users.names == {1: "Eve"}
