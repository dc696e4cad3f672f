"""Many callers of one cold key: how often the function runs, who fails, and what waiting for others costs a server.

*Stampede*: 200 callers at one moment, a function of 50 ms; as coroutines, as threads, and as four processes with 50
callers each, released together. Runs of the function, and callers that got no value.

*Price of the fleet lock*: 50 callers none of whom shares a flight with another (50 caches of ours; peers' callers meet
at the server's lock), a function of 500 ms. Requests that clients send (`MONITOR`), without the heartbeats that 50
processes send when nobody waits; commands, which are requests and what their scripts call; and the time until the last
caller has its value. Of several rounds the quickest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._contestants import Contestant, in_memory, on_servers, ours
from benchmarks._peers import NoServerError, Place, aiocache, cashews, dogpile, serving
from benchmarks._table import Row, absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks._peers import Mode

NAME = "cache_stampede"
CALLERS, PROCESSES, LOADER_S = 200, 4, 0.05
WAITERS, SLOW_MS = 50, 500
LAST_S, HUNG_S = 30.0, 5.0
FLEET = {"aiocache": aiocache, "cashews": cashews, "dogpile.cache": dogpile, "smw": True}
ROOT = Path(__file__).resolve().parents[1]
ONE_EACH = f"{CALLERS} {{}} of a cold key"
FOUR = f"{PROCESSES} processes of {CALLERS // PROCESSES} callers of a cold key"
PRICE = f"{WAITERS} callers in separate flights, {SLOW_MS} ms"


def _rows(task: str, system: str, runs: float, failed: float) -> list[Row]:
    is_ours = system.startswith("smw")
    return [
        Row(f"{task}, runs", system, runs, "runs", target="<= 1 runs" if is_ours else None),
        Row(f"{task}, failed", system, failed, "callers", target="<= 0 callers" if is_ours else None),
    ]


async def _coroutines(contestant: Contestant) -> tuple[int, int]:
    runs = []

    async def load(number: int) -> int:
        runs.append(number)
        await asyncio.sleep(LOADER_S)
        return number

    assert contestant.cached is not None
    fn = contestant.cached(load)
    answers = await asyncio.gather(*(fn(1) for _ in range(CALLERS)), return_exceptions=True)
    return len(runs), sum(answer != 1 for answer in answers)


def _threads(contestant: Contestant) -> tuple[int, int]:
    runs, answers = [], []

    def load(number: int) -> int:
        runs.append(number)
        time.sleep(LOADER_S)
        return number

    assert contestant.cached is not None
    fn, barrier = contestant.cached(load), threading.Barrier(CALLERS)

    def call() -> None:
        barrier.wait()
        answers.append(fn(1))

    threads = [threading.Thread(target=call, daemon=True) for _ in range(CALLERS)]
    hook, threading.excepthook = threading.excepthook, lambda _: None  # who fails is counted by the missing answer
    for thread in threads:
        thread.start()
    until = time.monotonic() + HUNG_S  # some hang for ever
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    threading.excepthook = hook
    return len(runs), CALLERS - answers.count(1)


async def _in_one_process(place: Place, mode: Mode) -> list[Row]:
    task = ONE_EACH.format("coroutines" if mode == "async" else "threads")
    rows = []
    contestants = [
        *in_memory(mode),
        *on_servers(place, mode),
        ours(mode, ("l1",)),
        ours(mode, ("l1", "l2"), place),
    ]
    for contestant in contestants:
        if contestant.cached is None:
            rows.append(absent(f"{task}, runs", contestant.name))
            continue
        took = await _coroutines(contestant) if mode == "async" else await asyncio.to_thread(_threads, contestant)
        rows += _rows(task, contestant.name, *took)
        await contestant.close()
    return sorted(rows, key=lambda row: row.task != f"{task}, runs")


@contextlib.contextmanager
def _workers(system: str, place: Place, number: int, callers: int, loader_ms: int, *, apart: bool) -> Iterator[Any]:
    """Start processes that are ready to call, and yield what releases them and returns what they say."""
    told = [system, place.host, str(place.port), str(callers), str(loader_ms), str(int(apart)), uuid.uuid4().hex]
    command = [sys.executable, "-m", "benchmarks._fleet_worker", *told]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    workers = [subprocess.Popen(command, text=True, cwd=ROOT, **pipes) for _ in range(number)]
    try:
        for worker in workers:
            if worker.stdout.readline() != "ready\n":
                raise RuntimeError(f"the worker of {system} did not start")

        def release() -> list[dict[str, float]]:
            for worker in workers:
                worker.stdin.write("\n")
                worker.stdin.flush()
            return [json.loads(worker.stdout.readline()) for worker in workers]

        yield release
        for worker in workers:
            worker.communicate("\n", timeout=LAST_S)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _in_processes() -> list[Row]:
    rows: list[Row] = []
    for system, module in FLEET.items():
        if module is None:
            rows.append(absent(f"{FOUR}, runs", system))
            continue
        with serving("redis") as place:
            each = CALLERS // PROCESSES
            with _workers(system, place, PROCESSES, each, int(LOADER_S * 1000), apart=False) as release:
                told = release()
        rows += _rows(FOUR, system, sum(one["runs"] for one in told), sum(one["failed"] for one in told))
    return sorted(rows, key=lambda row: row.task != f"{FOUR}, runs")


class _Tap:
    """Notes what a server does for its clients from when it is made until `ended`: what they ask, what scripts call."""

    def __init__(self, place: Place) -> None:
        import redis

        self._client = redis.Redis(host=place.host, port=place.port)
        self._mark = uuid.uuid4().hex
        self._asked: list[str] = []
        self._called: list[str] = []
        self._over = threading.Event()
        self._monitor = self._client.monitor()
        self._monitor.__enter__()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for command in self._monitor.listen():
            if self._mark in command["command"]:
                break
            if command["client_type"] == "lua":  # after the request that runs the script, and before the next one
                self._called.append(self._asked[-1] if self._asked else "")
            else:
                self._asked.append(" ".join(command["command"].split(" ", 2)[:2]))
        self._over.set()

    def ended(self) -> tuple[list[str], list[str]]:
        """Return the first two words of each request, and those of the request that each command of a script is of."""
        self._client.echo(self._mark)
        self._over.wait(LAST_S)
        self._monitor.connection.disconnect()
        self._client.close()
        return self._asked, self._called


def _cost(system: str, place: Place) -> dict[str, float]:
    """Return what one round says, and what it has cost the server."""
    with _workers(system, place, 1, WAITERS, SLOW_MS, apart=True) as release:
        time.sleep(1.5)  # what follows a start is over
        idle = _Tap(place)
        time.sleep(SLOW_MS / 1000)
        heartbeats, tap = set(idle.ended()[0]), _Tap(place)
        told: dict[str, float] = release()[0]
        asked, called = ([each for each in some if each not in heartbeats] for some in tap.ended())
        return told | {"requests": len(asked), "commands": len(asked) + len(called)}


def _price(rounds: int) -> list[Row]:
    """Return the cost of the quietest round in which the function ran once."""
    rows: list[Row] = []
    units = {"requests": None, "commands": "<= 150 commands", "ms": "<= 520 ms"}
    for system, module in FLEET.items():
        if module is None:
            rows.append(absent(PRICE, system))
            continue
        with serving("redis") as place:
            costs = [_cost(system, place) for _ in range(rounds)]
        good = [cost for cost in costs if cost["runs"] == 1 and not cost["failed"]]
        if not good:
            rows.append(absent(PRICE, system, f"{costs[0]['runs']} runs, {costs[0]['failed']} callers failed"))
            continue
        best = min(good, key=lambda cost: cost["wall_ms"])
        best["ms"] = best["wall_ms"]
        rows += [
            Row(f"{PRICE}: {unit}", system, best[unit], unit, target=units[unit] if system == "smw" else None)
            for unit in units
        ]
    return sorted(rows, key=lambda row: (row.unit != "requests", row.unit != "commands"))


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Measure all, each fleet against a server of its own."""
    rows: list[Row] = []
    logging.getLogger("aiocache").setLevel(logging.CRITICAL)  # it logs each caller that fails, which is counted here
    try:
        with serving("redis") as place:
            for mode in ("async", "sync"):
                rows += asyncio.run(_in_one_process(place, mode))
        return [*rows, *_in_processes(), *_price(1 if quick else 3)]
    except NoServerError as error:
        return [absent(NAME, "everybody", str(error))]
