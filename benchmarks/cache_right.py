"""What callers get when things go wrong around a cached function: right or wrong answers, sync and async.

A function of 50 ms and ten callers at one moment, a task each:

- *the leader is cancelled* at 20 ms (async): each of the nine others gets the value;
- *the function raises*: each of the ten gets that error, within five seconds;
- *the source changes* and the key is dropped at 10 ms, while the function runs: a call after its end sees the new one;
- *a hit is mutated* by who got it: the next caller gets what was stored;
- *200 instances* that live for one call each: nobody gets another instance's result.

Wrong answers are counted, with callers that got none. Ours on each level by itself, and on memory before each server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks._contestants import Contestant, in_memory, on_servers, ours
from benchmarks._peers import NoServerError, serving
from benchmarks._table import Row, absent

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks._peers import Mode, Place

NAME = "cache_right"
CALLERS, INSTANCES = 10, 200
LOADER_S, CANCEL_S, DROP_S, LAST_S = 0.05, 0.02, 0.01, 5.0
LEVELS = (("l1",), ("l2",), ("l3",), ("l1", "l2"), ("l1", "l3"))
source = {"value": "old", "is_sick": False}


def load(number: int) -> list[Any]:
    """Read the source, which takes a while."""
    read = source["value"], source["is_sick"]
    time.sleep(LOADER_S)
    if read[1]:
        raise LookupError(number)
    return [number, read[0]]


async def aload(number: int) -> list[Any]:
    """Read the source, which takes a while."""
    read = source["value"], source["is_sick"]
    await asyncio.sleep(LOADER_S)
    if read[1]:
        raise LookupError(number)
    return [number, read[0]]


async def _at_once(fn: Any, mode: Mode, number: int) -> list[asyncio.Future[Any]]:
    """Return the outcomes to come of ten calls; those of threads that hang end with the process."""
    if mode == "async":
        return [asyncio.ensure_future(fn(number)) for _ in range(CALLERS)]
    loop, made = asyncio.get_running_loop(), []

    def call(future: asyncio.Future[Any]) -> None:
        try:
            outcome, settle = fn(number), future.set_result
        except Exception as error:  # noqa: BLE001 - what is counted
            outcome, settle = error, future.set_exception
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: future.done() or settle(outcome))

    for _ in range(CALLERS):
        made.append(loop.create_future())
        threading.Thread(target=call, args=(made[-1],), daemon=True).start()
    return made


async def _outcomes(calls: list[asyncio.Future[Any]]) -> list[Any]:
    """Return what each has brought, an error or None where nothing came."""
    await asyncio.wait(calls, timeout=LAST_S)
    found: list[Any] = []
    for call in calls:
        if not call.done() or call.cancelled():
            found.append(None)
        else:
            found.append(call.exception() or call.result())
    for call in calls:
        call.cancel()
    return found


async def _one(fn: Any, mode: Mode, *args: Any) -> Any:
    return await fn(*args) if mode == "async" else await asyncio.to_thread(fn, *args)


async def _cancelled(_contestant: Contestant, fn: Any) -> int:
    calls = await _at_once(fn, "async", 1)
    await asyncio.sleep(CANCEL_S)
    calls[0].cancel()
    return sum(outcome != [1, "old"] for outcome in (await _outcomes(calls))[1:])


async def _raising(contestant: Contestant, fn: Any) -> int:
    source["is_sick"] = True
    outcomes = await _outcomes(await _at_once(fn, contestant.mode, 2))
    source["is_sick"] = False
    return sum(not isinstance(outcome, LookupError) for outcome in outcomes)


async def _changed(contestant: Contestant, fn: Any) -> int:
    calls = await _at_once(fn, contestant.mode, 3)
    await asyncio.sleep(DROP_S)
    source["value"] = "new"
    await contestant.drop(fn, 3)
    await _outcomes(calls)
    answer = await _one(fn, contestant.mode, 3)
    source["value"] = "old"
    return int(answer != [3, "new"])


async def _mutated(contestant: Contestant, fn: Any) -> int:
    await _one(fn, contestant.mode, 4)
    (await _one(fn, contestant.mode, 4)).append("mine")
    return int(await _one(fn, contestant.mode, 4) != [4, "old"])


async def _instances(contestant: Contestant, _fn: Any) -> int:
    assert contestant.cached is not None

    class Account:
        def __init__(self, owner: int) -> None:
            self.owner = owner

        if contestant.mode == "sync":

            @contestant.cached
            def read(self, number: int) -> list[int]:
                return [self.owner, number]
        else:

            @contestant.cached
            async def read(self, number: int) -> list[int]:
                return [self.owner, number]

    wrong = 0
    for owner in range(INSTANCES):
        account = Account(owner)
        try:
            answer = account.read(1)
            wrong += (await answer if contestant.mode == "async" else answer) != [owner, 1]
        except Exception:  # noqa: BLE001 - counted
            wrong += 1
    return wrong


TASKS: dict[str, Callable[[Contestant, Any], Any]] = {
    "the leader is cancelled": _cancelled,
    "the function raises": _raising,
    "the source changes during a load": _changed,
    "a hit is mutated": _mutated,
    f"{INSTANCES} short-lived instances": _instances,
}


async def _measure(mode: Mode, redis: Place, memcached: Place) -> list[Row]:
    rows: list[Row] = []
    for task, wrong in TASKS.items():
        if wrong is _cancelled and mode == "sync":
            continue  # nobody cancels a thread
        places = {"l2": redis, "l3": memcached}
        mine = [ours(mode, levels, *[places[level] for level in levels if level in places]) for levels in LEVELS]
        for contestant in [*in_memory(mode), *on_servers(redis, mode), *mine]:
            name = f"{task}, {mode}: wrong"
            if contestant.cached is None:
                rows.append(absent(name, contestant.name))
                continue
            fn = contestant.cached(load if mode == "sync" else aload)
            await asyncio.gather(*await _at_once(fn, mode, 0))  # connections stand
            count = float(await wrong(contestant, fn))
            target = "<= 0 answers" if contestant.name.startswith("smw") else None
            rows.append(Row(name, contestant.name, count, "answers", target=target))
            with contextlib.suppress(Exception):
                await contestant.drop(fn, 1)
            await contestant.close()
    return rows


def run(quick: bool) -> list[Row]:  # noqa: ARG001, FBT001 - there is nothing to repeat
    """Try all, against servers of our own."""
    for name in ("aiocache", "smw.cache"):  # they log what fails, and what is kept in memory alone; it is counted here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    rows: list[Row] = []
    try:
        with serving("redis") as redis, serving("memcached") as memcached:
            for mode in ("async", "sync"):
                rows += asyncio.run(_measure(mode, redis, memcached))
    except NoServerError as error:
        return [absent(NAME, "everybody", str(error))]
    return rows
