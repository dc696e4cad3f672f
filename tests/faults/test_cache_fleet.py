"""One load for all processes, over a real Redis: leaders fail, are cancelled, killed and overtaken by drops."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from smw.cache import Cache, key_for
from smw.cache.coherence.wire import LEASE_END
from tests.faults.test_cache_backplane import until
from tests.services.stopwatch import Stopwatch

pytestmark = [pytest.mark.service("redis"), pytest.mark.timed]


class Member:
    """A cache as one of several processes has it, and how often it has loaded."""

    def __init__(self, url: str, namespace: str, load, **options) -> None:
        self.cache = Cache(namespace=namespace, l2_host=url, budget_ms=1000)
        self.fleet = self.cache._engine.fleet
        self.loads = 0

        def read(key: int) -> object:
            self.loads += 1
            return load(key)

        async def read_awaited(key: int) -> object:
            self.loads += 1
            return await load(key)

        chosen = read_awaited if asyncio.iscoroutinefunction(load) else read
        chosen.__qualname__ = "read"
        self.read = self.cache.cached(300, tags=["n"], key=lambda key: key, **options)(chosen)


@pytest.fixture
def members(redis_server):
    """Make so many caches of one namespace, each of which hears the others."""
    namespace, made = f"t{uuid.uuid4().hex}", []

    def make(count: int, *loads, url: str = redis_server.url, **options) -> list[Member]:
        new = [Member(url, namespace, loads[number % len(loads)], **options) for number in range(count)]
        made.extend(new)
        for member in new:
            member.cache._listener.start()
        until(lambda: all(member.cache._listener.is_connected for member in new))
        return new

    yield make
    for member in made:
        member.cache.close()


def at_once(members: list[Member], key: int, each: int = 1) -> tuple[list[object], float]:
    """Call all members from threads at one moment; returns what they returned or raised, and how long that took."""
    results: list[object] = []
    barrier, returned, measured = threading.Barrier(len(members) * each + 1), threading.Semaphore(0), threading.Event()

    def call(member: Member) -> None:
        barrier.wait()
        try:
            result = member.read(key)
            results.append(asyncio.run(result) if asyncio.iscoroutine(result) else result)
        except LookupError as error:
            results.append(error)
        returned.release()
        measured.wait(30)  # what it waited for a processor is known as long as it is there

    threads = [threading.Thread(target=call, args=(member,)) for member in members for _ in range(each)]
    for thread in threads:
        thread.start()
    barrier.wait()
    watch = Stopwatch()
    for _ in threads:
        returned.acquire(timeout=15)
    took_s = watch.took_s()
    measured.set()
    for thread in threads:
        thread.join(15)
    return results, took_s


def slow(key: int) -> int:
    time.sleep(0.1)
    return key


async def slow_awaited(key: int) -> int:
    await asyncio.sleep(0.1)
    return key


def total(members: list[Member]) -> int:
    return sum(member.loads for member in members)


def test_one_member_loads_for_all(members, redis_server):
    """Threads and coroutines of several processes that miss one key at one moment share one run of the function."""

    def others_wait(key: int) -> int:
        lease = key_for(fleet[0].read, key) + LEASE_END
        with redis.Redis.from_url(redis_server.url) as client:
            for _ in range(1000):
                if sum(name.startswith(b"w") for name in client.hkeys(lease)) == 3:
                    break
                time.sleep(0.01)
        return key

    async def others_wait_awaited(key: int) -> int:
        return await asyncio.to_thread(others_wait, key)

    fleet = members(4, others_wait, others_wait_awaited)
    for key in range(1, 9):
        results, _ = at_once(fleet, key, each=3)
        assert results == [key] * 12
        assert total(fleet) == key
    assert sum((member.fleet.waits for member in fleet), Counter())["filled"] >= 3 * 8


STORM = """
import asyncio, sys
from smw.cache import Cache, key_for
from smw.cache.coherence.wire import LEASE_END

cache, runs = Cache(namespace=sys.argv[2], l2_host=sys.argv[1], budget_ms=1000), []

@cache.cached(60, key=lambda key: key)
async def load(key: int) -> int:
    runs.append(key)
    await asyncio.sleep(0.05)
    return key

async def main() -> None:
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    answers = await asyncio.gather(*(load(1) for _ in range(50)))
    print(len(runs), answers.count(1), flush=True)
    await cache.aclose()

asyncio.run(main())
"""


def test_a_stampede_of_processes_on_a_cold_key_runs_the_function_once(redis_server):
    """Four processes that have just started, fifty callers each: one run, and everybody is answered."""
    command = [sys.executable, "-c", STORM, redis_server.url, f"t{uuid.uuid4().hex}"]
    storm = [
        subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd())
        for _ in range(4)
    ]
    assert [process.stdout.readline() for process in storm] == ["ready\n"] * 4
    for process in storm:
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate(timeout=20)[0].split() for process in storm]
    assert [int(answered) for _, answered in told] == [50] * 4
    assert sum(int(runs) for runs, _ in told) == 1


@pytest.mark.parametrize(("size", "reads"), [(10, 20), (5000, 29)])
def test_waiting_asks_nothing(members, redis_server, size, reads):
    """Who waits sends two requests in all, however long the load takes, and one more for a large value."""

    def slower(_key: int) -> bytes:
        time.sleep(0.7)
        return random.Random(1).randbytes(size)

    fleet = members(10, slower)
    with redis.Redis.from_url(redis_server.url) as client:
        before = client.info("commandstats")
        results, took = at_once(fleet, 1)
        after = client.info("commandstats")
    asked = {
        name: after[f"cmdstat_{name}"]["calls"] - before.get(f"cmdstat_{name}", {"calls": 0})["calls"]
        for name in ("mget", "hmget")
    }
    assert results == [slower(1)] * 10
    assert total(fleet) == 1
    assert asked == {"mget": reads, "hmget": 10}, (
        "a read, a lease, which reads the counters, and for those who waited what was enclosed, or a read"
    )
    assert took < 1.2


def test_a_load_that_fails_is_taken_over_by_one_of_the_others(members):
    """The error is its own caller's; of those who waited one loads next, and the rest get what it has loaded."""
    failures = []

    def fails_once(key: int) -> int:
        time.sleep(0.2)
        if not failures:
            failures.append(key)
            raise LookupError(key)
        return key

    fleet = members(6, fails_once)
    results, took = at_once(fleet, 1)
    assert sorted(map(type, results), key=repr) == sorted([LookupError] + [int] * 5, key=repr)
    assert total(fleet) == 2
    assert sum((member.fleet.waits for member in fleet), Counter())["failed"] == 5
    assert took < 1.5


def test_a_source_that_fails_for_everybody_is_asked_in_turn_and_then_at_once(members):
    """Each process gets an error of its own; the first three loads are one after the other, and no wait adds up."""
    under_way, loads = [], []

    def fails(key: int) -> int:
        under_way.append(1)
        loads.append(len(under_way))
        time.sleep(0.2)
        under_way.pop()
        raise LookupError(key)

    fleet = members(6, fails)
    results, took = at_once(fleet, 1)
    assert [type(result) for result in results] == [LookupError] * 6
    assert len(loads) == 6
    assert loads[:3] == [1, 1, 1]
    assert took < 2.5


def test_values_that_are_not_stored_are_not_waited_for_twice(members):
    """A value that stays in memory releases those who wait, and the next time everybody loads at once."""

    class Plain:
        pass

    def plain(_key: int) -> Plain:
        time.sleep(0.2)
        return Plain()

    fleet = members(4, plain)
    _, took = at_once(fleet, 1)
    assert total(fleet) == 4
    assert took < 1.0
    leader = next(member for member in fleet if not member.fleet.waits)
    assert leader.fleet._vain
    leader.cache.drop_sync(tags=["n"])
    watch = Stopwatch()
    leader.read(1)
    assert watch.took_s() < 0.35


async def test_a_cancelled_leader_lets_the_others_go(members):
    """Its lease is given back at once, and one of the others loads."""

    async def slowest(key: int) -> int:
        await asyncio.sleep(0.5)
        return key

    leader, other = members(2, slowest)
    first = asyncio.ensure_future(leader.read(1))
    await asyncio.to_thread(until, lambda: leader.loads)
    second = asyncio.ensure_future(other.read(1))
    await asyncio.sleep(0.1)
    watch = Stopwatch()
    first.cancel()
    assert await second == 1
    assert watch.took_s() < 0.9
    with contextlib.suppress(asyncio.CancelledError):
        await first


DOOMED = """
import sys, time
from smw.cache import Cache, key_for
from smw.cache.coherence.wire import LEASE_END

cache = Cache(namespace=sys.argv[2], l2_host=sys.argv[1], budget_ms=1000)

def read(key: int) -> int:
    print("loads", flush=True)
    time.sleep(60)

read.__qualname__, read.__module__ = "read", sys.argv[3]
cache.cached(300, tags=["n"], key=lambda key: key)(read)(1)
"""


def test_a_killed_leader_costs_a_second(members, redis_server):
    """The lease of a process that is gone runs out, and another one loads."""
    other = members(1, slow)[0]
    command = [sys.executable, "-c", DOOMED, redis_server.url, other.cache.settings.namespace, __name__]
    doomed = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, cwd=Path.cwd())
    try:
        assert doomed.stdout.readline() == "loads\n"
        time.sleep(1.2)  # longer than a lease: it was renewed
        answered: list[int] = []
        caller = threading.Thread(target=lambda: answered.append(other.read(1)))
        caller.start()
        time.sleep(0.3)
        assert not answered
        assert other.loads == 0
    finally:
        doomed.kill()
        doomed.communicate()
    watch = Stopwatch()
    caller.join(10)
    assert answered == [1]
    assert watch.took_s() < 2.0


def test_nobody_waits_for_a_load_that_began_before_a_drop(members):
    """After a drop a caller loads at once: what the other is loading will not be stored."""
    leader, other = members(2, slow)
    holds, version = threading.Event(), [1]

    def held(_key: int) -> int:
        seen = version[0]
        if seen == 1:
            holds.wait(10)
        return seen

    leader, other = members(2, held)
    caller = threading.Thread(target=leader.read, args=(1,))
    caller.start()
    until(lambda: leader.loads)
    version[0] = 2
    other.cache.drop_sync(tags=["n"])
    watch = Stopwatch()
    assert other.read(1) == 2
    assert watch.took_s() < 0.5
    holds.set()
    caller.join(5)
    assert leader.read(1) == other.read(1) == 2


def test_a_drop_by_the_one_that_loads_leaves_one_load_for_all(members):
    """What it has loaded before is kept by nobody; of those who wait for it one loads, and the others wait for that."""
    gate, begun = threading.Event(), []

    def gated(key: int) -> int:
        begun.append(key)
        number = len(begun)
        gate.wait(10) if number == 1 else time.sleep(0.2)
        return number

    leader, *others = members(4, gated)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(leader.read, 1)
        until(lambda: begun)
        waiting = [pool.submit(other.read, 1) for other in others]
        until(lambda: all(other.fleet._waiting for other in others))
        leader.cache.drop_sync(tags=["n"])
        gate.set()
        assert first.result(10) == 1
        assert [each.result(10) for each in waiting] == [2] * 3
    assert len(begun) == 2
    assert not leader.fleet._vain


def test_a_load_that_a_drop_has_overtaken_ends_no_later_lease_of_its_process(members):
    """Who waits for the second load of a process is told nothing when the first one ends, and takes the second's."""
    gates, begun = [threading.Event(), threading.Event()], []

    def gated(key: int) -> int:
        begun.append(key)
        number = len(begun)
        gates[min(number, 2) - 1].wait(10)
        return number

    both, other = members(2, gated)
    with ThreadPoolExecutor(3) as pool:
        older = pool.submit(both.read, 1)
        until(lambda: begun)
        both.cache.drop_sync(tags=["n"])
        newer = pool.submit(both.read, 1)
        until(lambda: len(begun) == 2)
        waiting = pool.submit(other.read, 1)
        until(lambda: other.fleet._waiting)
        gates[0].set()
        assert older.result(10) == 1
        gates[1].set()
        assert (newer.result(10), waiting.result(10)) == (2, 2)
    assert other.loads == 0


def test_without_redis_everybody_loads_at_once(members, service_factory):
    """A server that does not answer makes no one wait for anyone."""
    server = service_factory("redis")
    fleet = members(2, slow, url=server.url)
    server.kill()
    results, took = at_once(fleet, 1)
    assert results == [1, 1]
    assert total(fleet) == 2
    assert took < 1.5


@pytest.mark.parametrize(("flight", "loads"), [("process", 2), ("off", 6)])
def test_other_flights_share_less(members, flight, loads):
    """`process` runs the function once in each process, `off` once for each caller."""

    def among_others(key: int) -> int:
        until(lambda: total(fleet) == loads)  # or a busy machine would have some come when there is a value
        time.sleep(0.1)
        return key

    fleet = members(2, among_others, flight=flight)
    results, _ = at_once(fleet, 1, each=3)
    assert results == [1] * 6
    assert total(fleet) == loads


def test_figures_tell_how_waits_have_ended(members):
    """Waits are counted by their end, beside the other figures of the cache."""
    fleet = members(2, slow)
    at_once(fleet, 1)
    found = [fact for member in fleet for fact in member.cache._facts() if fact.name == "smw_cache_fleet_waits_total"]
    assert sum(fact.value for fact in found if dict(fact.labels)["outcome"] == "filled") == 1


def test_a_function_that_is_quicker_than_a_lease_takes_none(members, redis_server, monkeypatch):
    """After a quick load the next ones are not agreed on with others; a slow one changes that."""
    monkeypatch.setattr("smw.cache.loading.fleet._QUICK_S", 0.04)  # a busy machine may take a while for nothing
    seconds = [0.0]

    def varying(key: int) -> int:
        time.sleep(seconds[0])
        return key

    member = members(1, varying)[0]
    with redis.Redis.from_url(redis_server.url) as client:

        def leases() -> int:
            return client.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"]

        until(lambda: [member.read(key) for key in range(member.loads, member.loads + 5)] and _is_quick(member))
        before = leases()
        member.read(1001)
        assert leases() == before
        seconds[0] = 0.05
        member.read(1002)
        member.read(1003)
        assert leases() == before + 1


def _is_quick(member: Member) -> bool:
    return max(member.fleet._took.values()) < 0.01


async def test_a_lease_that_nobody_makes_use_of_ends_by_itself(members):
    """A caller that is cancelled in the moment in which it gets the lease holds others up as one that died does."""
    leader, other = members(2, slow_awaited)
    ask = leader.fleet.leasing.one

    async def cancelled(*args, **more):
        leased = await ask(*args, **more)
        assert leased.leads
        raise asyncio.CancelledError

    leader.fleet.leasing.one = cancelled
    with contextlib.suppress(asyncio.CancelledError):
        await leader.read(1)
    assert leader.loads == 0
    began = time.monotonic()
    assert await other.read(1) == 1
    assert time.monotonic() - began < 4.0, "the ten seconds of a wait were not waited"
