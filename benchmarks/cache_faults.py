"""What callers notice of a sick Redis: 50 calls a second to a cached function, whatever the server does to them.

Open loop: each call is a task (or thread) of its own, and its time counts from the moment at which it was due. Call
*i* reads key ``(i * 7) % 100``; the origin takes 5 ms; a value lives 60 s. First all is well for a while, then the
fault lasts, then all is well again; half-way through the fault ten keys get a new version and are invalidated through
the library. Each system runs in a process of its own against a server of its own.

*errors*: calls that raised (those that were cancelled are left out). *stale*: answers older than a version whose
invalidation had returned, whatever it said, before the call began. *wrong*: another key's value, or a mangled one.
*hung*: not ended some seconds after the last call. *in flight*: the most at one time. Ours asks the server on every
call (``levels=("l2",)``): memory would answer most of them and hide the fault.

``none`` is the same without a fault; it shows what the machine adds, and is not in the sums.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from benchmarks._peers import optional
from benchmarks._table import Row, absent
from tests.faults.tcp_proxy import TcpProxy
from tests.services.locate import Found, locate
from tests.services.server import Server, launch
from tests.services.specs import SPECS

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "cache_faults"
ROOT = Path(__file__).resolve().parents[1]
SYSTEMS = {
    "cashews": "cashews", "aiocache": "aiocache", "dogpile.cache": "dogpile.cache", "Flask-Caching": "flask_caching",
    "redis-py": "redis", "smw, async": "smw", "smw, sync": "smw",
}  # fmt: skip
BLOCKING = ("dogpile.cache", "Flask-Caching", "smw, sync")
PROXIED = {
    "slow500": "slow", "reset": "reset", "garbage": "garbage", "truncate": "truncate", "blackhole": "blackhole",
    "drip": "drip", "cancel": "late",
}  # fmt: skip
SCENARIOS = (
    "none", "downstart", "sigkill", "sigstop", "slow500", "reset", "garbage", "truncate", "blackhole", "drip",
    "readonly", "oom", "auth", "poison", "cancel",
)  # fmt: skip
QUICK = ("none", "sigkill", "cancel")
WORST = ("over 100 ms", "over 250 ms", "in flight")
COLUMNS = ("errors", "over 100 ms", "over 250 ms", "hung", "stale", "wrong", "in flight")
TARGETS = {
    "errors": "<= 0 calls", "over 100 ms": "<= 10 calls", "over 250 ms": "<= 0 calls", "hung": "<= 0 calls",
    "stale": "<= 0 calls", "wrong": "<= 0 calls", "in flight": "<= 15 calls",
}  # fmt: skip
FULL_S, QUICK_S = (3.0, 5.0, 7.0, 75.0), (0.5, 2.0, 1.0, 2.0)


def _admin(server: Server, *commands: tuple[Any, ...], password: str | None = None) -> None:
    with redis.Redis(host=server.host, port=server.port, password=password) as client:
        for command in commands:
            with contextlib.suppress(redis.ConnectionError):  # it may have been told to end this one
                client.execute_command(*command)


def _poison(server: Server) -> None:
    with redis.Redis(host=server.host, port=server.port) as client:
        for key in list(client.scan_iter(count=1000)):
            if client.type(key) == b"string" and not (client.get(key) or b"").isdigit():
                client.set(key, os.urandom(40), keepttl=True)


def _faults(scenario: str, server: Server, proxy: TcpProxy) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what brings a fault about, and what ends it."""
    if scenario in PROXIED:
        return (lambda: proxy.hurt(PROXIED[scenario])), (lambda: proxy.hurt("pass"))
    password = ("CONFIG", "SET", "requirepass", "another")
    return {
        "none": (lambda: None, lambda: None),
        "downstart": (lambda: None, server.start),
        "sigkill": (server.kill, server.start),
        "sigstop": (server.pause, server.resume),
        "readonly": (
            lambda: _admin(server, ("REPLICAOF", "127.0.0.1", "1")),
            lambda: _admin(server, ("REPLICAOF", "NO", "ONE")),
        ),
        "oom": (
            lambda: _admin(server, ("CONFIG", "SET", "maxmemory", "1")),
            lambda: _admin(server, ("CONFIG", "SET", "maxmemory", "0")),
        ),
        "auth": (
            lambda: _admin(server, password, ("CLIENT", "KILL", "TYPE", "normal")),
            lambda: _admin(server, ("CONFIG", "SET", "requirepass", ""), password="another"),
        ),
        "poison": (lambda: _poison(server), lambda: None),
    }[scenario]


def _fared(
    system: str, scenario: str, found: Found, spans: tuple[float, ...], ready: threading.Barrier
) -> dict[str, int]:
    """Return what one system says of one scenario, in which all begin when the last is ready."""
    server = launch(SPECS["redis"], found)
    proxy = TcpProxy(server.port)
    begin, end = _faults(scenario, server, proxy)
    if scenario == "downstart":
        server.stop()
    port = proxy.port if scenario in PROXIED else server.port
    words = [system, str(port), str(int(scenario == "cancel")), str(int(scenario != "downstart")), *map(str, spans)]
    command, pipes = [sys.executable, "-m", "benchmarks._fault_worker", *words], subprocess.PIPE
    worker = subprocess.Popen(command, text=True, cwd=ROOT, stdin=pipes, stdout=pipes, stderr=subprocess.DEVNULL)
    try:
        assert worker.stdin is not None
        assert worker.stdout is not None
        if worker.stdout.readline() != "ready\n":
            ready.abort()
            raise RuntimeError(f"the worker of {system} did not start")
        ready.wait(60)
        worker.stdin.write("\n")
        worker.stdin.flush()
        time.sleep(spans[0])
        begin()
        time.sleep(spans[1])
        end()
        told: dict[str, int] = json.loads(worker.stdout.readline())
        return told
    finally:
        worker.kill()
        worker.communicate()
        proxy.close()
        server.close()


def _shown(told: dict[str, dict[str, dict[str, int]]]) -> str:
    """Lay out every scenario, a line a system."""
    width = max(map(len, SCENARIOS))
    lines = [f"{'':{width}}  {'':14}" + "".join(f"{column:>13}" for column in COLUMNS)]
    for scenario, systems in told.items():
        for number, (system, figures) in enumerate(systems.items()):
            name = "" if number else scenario
            lines.append(f"{name:{width}}  {system:14}" + "".join(f"{figures[column]:>13}" for column in COLUMNS))
    return "\n".join(lines)


def _rows(told: dict[str, dict[str, dict[str, int]]]) -> list[Row]:
    """Return for each column the sum over the scenarios, or the worst of them."""
    rows = []
    hurt = {scenario: systems for scenario, systems in told.items() if scenario != "none"}
    for column in COLUMNS:
        how = "in the worst of them" if column in WORST else "in all"
        task = f"{len(hurt)} ways of a sick Redis, {column} {how}"
        for system, module in SYSTEMS.items():
            if optional(module) is None:
                rows.append(absent(task, system))
                continue
            figures = [systems[system][column] for systems in hurt.values() if system in systems]
            value = max(figures) if column in WORST else sum(figures)
            target = TARGETS[column] if system.startswith("smw") else None
            rows.append(Row(task, system, float(value), "calls", target=target))
    return rows


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the harness calls every benchmark so
    """Measure all, the systems of one scenario beside each other; leaves every scenario in ``results``."""
    found = locate(SPECS["redis"], fetch=False)
    if not isinstance(found, Found):
        return [absent(NAME, "everybody", f"no redis: {found.reason}")]
    told: dict[str, dict[str, dict[str, int]]] = {}
    spans = QUICK_S if quick else FULL_S
    systems = [system for system, module in SYSTEMS.items() if optional(module) is not None]
    for scenario in QUICK if quick else SCENARIOS:
        chosen = [system for system in systems if scenario != "cancel" or system not in BLOCKING]
        with concurrent.futures.ThreadPoolExecutor(len(chosen)) as together:
            ready = threading.Barrier(len(chosen))
            fared = [together.submit(_fared, system, scenario, found, spans, ready) for system in chosen]
            concurrent.futures.wait(fared)
            faults = [error for each in fared if (error := each.exception()) is not None]
            for error in sorted(faults, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
                raise error  # who did not start, rather than those who waited for it
            told[scenario] = {system: each.result() for system, each in zip(chosen, fared, strict=True)}
    print(f"\n{_shown(told)}")
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    (results / "cache_faults.txt").write_text(_shown(told) + "\n", encoding="utf-8")
    return _rows(told)
