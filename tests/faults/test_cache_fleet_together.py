"""One load for all processes of what is loaded together or loaded anew, over a real Redis: overlaps, failures, ends."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
import redis

from smw.cache import Cache, get_many, get_many_sync
from smw.cache.coherence.servertime import ServerTime
from smw.cache.stores.redis_scripts import LEASE, OPEN, WRITE
from tests.faults.test_cache_backplane import until
from tests.services.stopwatch import Stopwatch

pytestmark = [pytest.mark.service("redis"), pytest.mark.timed]


class Member:
    """A cache as one of several processes has it, and what its `many=` was asked for."""

    def __init__(self, url: str, namespace: str, load, **options) -> None:
        self.cache = Cache(namespace=namespace, l2_host=url, budget_ms=1000)
        self.fleet = self.cache._engine.fleet
        self.asked: list[list[int]] = []
        self.meanwhile = load
        options = {"tags": ["n"], "key": lambda number: number} | options

        def now(numbers):
            self.asked.append(list(numbers))
            self.meanwhile(numbers)
            return {number: number for number in numbers}

        async def later(numbers):
            return await asyncio.to_thread(now, numbers)

        self.now = self.cache.cached(300, many=now, **options)(_now)
        self.later = self.cache.cached(300, many=later, **options)(_later)

    def ask(self, mode: str, numbers) -> list[int]:
        return get_many_sync(self.now if mode == "sync" else self.later, numbers)

    @property
    def loaded(self) -> list[int]:
        return [number for asked in self.asked for number in asked]


def _now(number: int) -> int: ...


async def _later(number: int) -> int: ...


@pytest.fixture
def members(redis_server):
    """Make so many caches of one namespace, each of which hears the others."""
    namespace, made = f"t{uuid.uuid4().hex}", []

    def make(count: int, load=lambda _numbers: time.sleep(0.2), **options) -> list[Member]:
        new = [Member(redis_server.url, namespace, load, **options) for _ in range(count)]
        made.extend(new)
        for member in new:
            member.cache._listener.start()
        until(lambda: all(member.cache._listener.is_connected for member in new))
        return new

    yield make
    for member in made:
        member.cache.close()


def at_once(jobs) -> tuple[list[object], float]:
    """Run jobs in threads from one moment on; returns what they returned or raised, and how long that took."""
    results: list[object] = [None] * len(jobs)
    barrier = threading.Barrier(len(jobs) + 1)

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = jobs[number]()
        except LookupError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join(20)
    return results, time.monotonic() - began


@pytest.mark.parametrize("modes", [("sync", "sync"), ("async", "async"), ("sync", "async")])
def test_overlapping_keys_are_each_loaded_by_one(members, modes):
    """Two that want overlapping keys in opposite orders load each of them once, and do not wait for each other."""
    fleet = members(2)
    orders = [list(range(60)), list(reversed(range(30, 90)))]
    jobs = [
        lambda each=each, mode=mode, order=order: each.ask(mode, order)
        for each, mode, order in zip(fleet, modes, orders, strict=True)
    ]
    results, took = at_once(jobs)
    assert results == orders
    loads = Counter(number for member in fleet for number in member.loaded)
    if len(set(modes)) == 1:  # those of two modes are functions of two names
        assert loads == dict.fromkeys(range(90), 1)
        assert sum(len(member.asked) for member in fleet) <= 6
    assert took < 3.0


STORM = """
import asyncio, json, sys, time
from smw.cache import Cache, get_many, get_many_sync
from smw.cache.stores.redis_scripts import LEASE, OPEN, WRITE

mode, first, last = sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
cache, asked = Cache(namespace=sys.argv[2], l2_host=sys.argv[1], budget_ms=2000), []

def load(numbers):
    asked.append(list(numbers))
    time.sleep(0.3)
    return {number: number for number in numbers}

async def later(numbers):
    return await asyncio.to_thread(load, numbers)

if mode == "sync":
    @cache.cached(60, key=lambda number: number, many=load)
    def read(number: int) -> int: ...
else:
    @cache.cached(60, key=lambda number: number, many=later)
    async def read(number: int) -> int: ...

cache._listener.start()
while not cache._listener.is_connected:
    time.sleep(0.01)
print("ready", flush=True)
sys.stdin.readline()
found = get_many_sync(read, range(first, last))
print(json.dumps([found == list(range(first, last)), asked]), flush=True)
cache.close()
"""


def test_processes_share_what_they_load_together(redis_server):
    """Three processes that want overlapping keys at one moment load each of them once, in whichever mode."""
    command = [sys.executable, "-c", STORM, redis_server.url, f"t{uuid.uuid4().hex}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    storm = [
        subprocess.Popen([*command, mode, str(at), str(at + 100)], text=True, cwd=Path.cwd(), **pipes)
        for mode, at in (("sync", 0), ("async", 50), ("sync", 100))
    ]
    assert [process.stdout.readline() for process in storm] == ["ready\n"] * 3
    for process in storm:
        process.stdin.write("\n")
        process.stdin.flush()
    told = [json.loads(process.communicate(timeout=20)[0]) for process in storm]
    assert [is_right for is_right, _ in told] == [True] * 3
    loads = Counter(number for _, asked in told for numbers in asked for number in numbers)
    assert loads == dict.fromkeys(range(200), 1)


def test_a_load_that_fails_is_taken_over_by_those_who_waited(members):
    """Who waited for keys of a load that has failed loads them together, and has all results."""
    one, two = members(2)
    began = threading.Event()

    def fails(_numbers):
        began.set()
        time.sleep(0.2)
        raise LookupError

    def second():
        began.wait(10)
        return two.ask("sync", range(20))

    one.meanwhile = fails
    results, took = at_once([lambda: one.ask("sync", range(20)), second])
    assert isinstance(results[0], LookupError)
    assert results[1] == list(range(20))
    assert sorted(two.loaded) == list(range(20))
    assert len(two.asked) <= 4, "those who are told at about the same time load together"
    assert took < 3.0


def test_what_is_loaded_together_is_leased_and_read_together(members, redis_server):
    """A cold `get_many` costs a read, a request for all leases, and a write for each value."""
    member = members(1)[0]
    member.ask("sync", [1000])  # scripts are known from now on
    asked = Counter()
    with redis.Redis.from_url(redis_server.url) as client, client.monitor() as monitor:
        assert member.ask("sync", range(50)) == list(range(50))
        mark = uuid.uuid4().hex
        client.echo(mark)
        for command in monitor.listen():
            if mark in command["command"]:
                break
            if command["client_type"] != "lua":
                words = command["command"].split(" ")
                asked[words[words[0] == "EVALSHA"]] += 1
    hashes = member.cache._engine.remote.servers[0].store._hashes
    assert (asked["MGET"], asked[hashes[LEASE]], asked[hashes[WRITE]]) == (1, 1, 50)
    assert OPEN not in hashes


async def test_calls_of_one_tick_are_leased_together(members):
    """Coroutines that miss in one tick ask for their leases at once, and are one load still."""
    member = members(1)[0]
    await member.cache.aprepare()  # or the first one would wait for the server's time meanwhile
    leasing, asked = member.fleet.leasing, []
    now = leasing.now

    async def counted(some, mode):
        asked.append(len(some))
        return await now(some, mode)

    leasing.now = counted
    assert await asyncio.gather(*map(member.later, range(8))) == list(range(8))
    assert sorted(member.loaded) == list(range(8))
    assert sum(asked) == 8
    assert max(len(member.asked), len(asked)) <= 2, "the first one asks Redis alone, so it may be ahead of the others"


async def test_calls_that_do_not_know_the_time_ask_for_it_once(members):
    """Coroutines of a process that has just started are leased together too, after one question for all."""
    member = members(1)[0]
    level, asked, leased = member.cache._engine.remote.servers[0], [], []
    now, ask = member.fleet.leasing.now, level.store.time

    async def time(**given) -> float:
        asked.append(given["mode"])
        return await ask(**given)

    async def counted(some, mode):
        leased.append(len(some))
        return await now(some, mode)

    level.store.time, member.fleet.leasing.now = time, counted
    level.time = ServerTime(member.cache._engine.host.clock, is_told=True)
    level.time.learned_at = member.cache._engine.host.clock.now()  # so that no heartbeat asks meanwhile
    assert await asyncio.gather(*map(member.later, range(8))) == list(range(8))
    assert (asked.count("async"), sum(leased)) == (1, 8)
    assert len(leased) <= 2


async def test_a_cold_burst_stores_all_that_it_has_loaded(members, redis_server):
    """Hundreds of coroutines that find nothing use a few connections, and another process loads none of it again."""
    one, two = members(2, load=lambda _numbers: None)
    numbers = list(range(300))
    with redis.Redis.from_url(redis_server.url) as client:
        before = client.info("stats")["total_connections_received"]
        assert await asyncio.gather(*map(one.later, numbers)) == numbers
        opened = client.info("stats")["total_connections_received"] - before
    assert sorted(one.loaded) == numbers
    assert await asyncio.gather(*map(two.later, numbers)) == numbers
    assert two.loaded == []
    assert opened < 32, "each that stores would take one of 64"


async def test_a_caller_that_leaves_gives_its_lease_back(members):
    """A caller that is cancelled while it asks for a lease keeps nobody waiting for it."""
    one, two = members(2)
    await get_many(one.later, [1])
    caller = asyncio.ensure_future(one.later(2))
    await asyncio.to_thread(until, lambda: one.fleet._waiting)
    caller.cancel()
    watch = Stopwatch()
    assert await two.later(2) == 2
    assert watch.took_s() < 0.9


class Renewing:
    """A cache as one of several processes has it, whose result is loaded anew after a second and a half."""

    def __init__(self, url: str, namespace: str, load, mode: str) -> None:
        self.cache = Cache(namespace=namespace, l2_host=url, budget_ms=1000, jitter=0)
        self.mode = mode
        self.loads = 0

        def read(number: int) -> int:
            self.loads += 1
            return load(number)

        async def read_awaited(number: int) -> int:
            return await asyncio.to_thread(read, number)

        read_awaited.__qualname__ = read.__qualname__ = "read"
        chosen = read if mode == "sync" else read_awaited
        self.read = self.cache.cached(30, key=lambda number: number, refresh_ahead=0.05)(chosen)


async def test_one_process_loads_anew_for_all(redis_server):
    """While one has the new value loaded the others hand out what stands, and take the new one when it is there."""
    namespace, answers = f"t{uuid.uuid4().hex}", [1]

    def load(_number: int) -> int:
        time.sleep(0.6 if answers[0] == 2 else 0.05)
        return answers[0]

    fleet = [Renewing(redis_server.url, namespace, load, mode) for mode in ("sync", "async") * 2]

    async def ask(member) -> int:
        return await (asyncio.to_thread(member.read, 1) if member.mode == "sync" else member.read(1))

    assert await asyncio.gather(*map(ask, fleet)) == [1] * 4
    assert sum(member.loads for member in fleet) == 1
    answers[0] = 2
    await asyncio.sleep(1.6)
    seen = await asyncio.gather(*map(ask, fleet))
    assert 1 in seen
    ends = time.monotonic() + 5.0
    while time.monotonic() < ends and seen != [2] * 4:
        await asyncio.sleep(0.05)
        seen = await asyncio.gather(*map(ask, fleet))
    assert seen == [2] * 4
    assert sum(member.loads for member in fleet) == 2
    for member in fleet:
        await member.cache.aclose()


def test_a_refresh_that_fails_is_tried_by_another(redis_server):
    """A load ahead of the end that fails gives its lease back: another process has it loaded, and no caller waits."""
    namespace, loads = f"t{uuid.uuid4().hex}", []

    def load(_number: int) -> int:
        loads.append(1)
        time.sleep(0.02)
        if len(loads) == 2:
            raise LookupError
        return len(loads)

    one, two = (Renewing(redis_server.url, namespace, load, "sync") for _ in range(2))
    assert (one.read(1), two.read(1)) == (1, 1)
    time.sleep(1.6)
    assert (one.read(1), two.read(1)) == (1, 3)
    one.cache.close()
    two.cache.close()
