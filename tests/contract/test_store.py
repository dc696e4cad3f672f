"""What every `Store` promises, run on a model and on real Redis and memcached, blocking and awaiting."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid

import pytest

from smw._kernel.clock import SystemClock, SystemEntropy
from smw.cache.memcached import MemcachedStore
from smw.cache.ports import StoreFailedError
from smw.cache.redis import RedisStore
from tests.contract.local_store import LocalStore

KINDS = [
    "local-async",
    "local-sync",
    pytest.param("redis-async", marks=pytest.mark.service("redis")),
    pytest.param("redis-sync", marks=pytest.mark.service("redis")),
    pytest.param("memcached-async", marks=pytest.mark.service("memcached")),
    pytest.param("memcached-sync", marks=pytest.mark.service("memcached")),
]


class Kit:
    """A store, the mode to use it in, and keys that no other test uses."""

    def __init__(self, store, mode) -> None:
        self.store = store
        self.how = {"mode": mode, "timeout_s": 2.0}
        self.prefix = f"t:{uuid.uuid4().hex}:"

    def name(self, text: str) -> str:
        return self.prefix + text

    async def read(self, key, *counters):
        return await self.store.read(self.name(key), [self.name(name) for name in counters], **self.how)

    async def open(self, *counters):
        return await self.store.open([self.name(name) for name in counters], 60.0, **self.how)

    async def opened(self, key, *counters):
        """Read, and start the counters that do not exist, as before a load."""
        found = await self.read(key, *counters)
        return found._replace(counters=await self.open(*counters) if counters else ())

    async def write(self, key, blob, found, *counters, ttl_s=60.0):
        names = [self.name(name) for name in counters]
        return await self.store.write(self.name(key), blob, ttl_s, counters=names, found=found, **self.how)

    async def drop(self, counters=(), keys=()):
        await self.store.drop([self.name(name) for name in counters], [self.name(key) for key in keys], **self.how)


def _store(kind: str, request):
    if kind == "local":
        return LocalStore(SystemClock())
    if kind == "redis":
        return RedisStore(request.getfixturevalue("redis_server").url, timeout_s=2.0)
    server = request.getfixturevalue("memcached_server")
    return MemcachedStore(server.address, timeout_s=2.0, clock=SystemClock(), entropy=SystemEntropy())


@pytest.fixture(params=KINDS)
async def kit(request):
    kind, _, mode = request.param.partition("-")
    store = _store(kind, request)
    yield Kit(store, mode)
    await store.aclose()


async def test_absent_key_is_found_without_value(kit):
    """Reading what was never written brings no bytes, and no number for an unknown counter."""
    found = await kit.read("k", "a")
    assert found.blob is None
    assert found.counters == (None,)


@pytest.mark.parametrize("blob", [b"", b"x", b"\r\nEND\r\n\x00\xff" * 7, os.urandom(200_000)], ids=len)
async def test_bytes_come_back_as_written(kit, blob):
    """Every sequence of bytes comes back as it was, protocol delimiters included."""
    assert await kit.write("k", blob, await kit.read("k")) is True
    assert (await kit.read("k")).blob == blob


async def test_opened_counter_stays(kit):
    """Opening a counter twice returns the same positive number, which reads bring too."""
    first = await kit.open("a", "b")
    assert all(number > 0 for number in first)
    assert await kit.open("a", "b") == first
    assert (await kit.read("k", "a", "b")).counters == first


async def test_a_drop_changes_the_named_counter_alone(kit):
    """After a drop the counter shows another number and its neighbour the same."""
    a, b = await kit.open("a", "b")
    await kit.drop(["a"])
    now = await kit.read("k", "a", "b")
    assert now.counters[0] != a
    assert now.counters[1] == b


async def test_numbers_never_return(kit):
    """Hundred drops give hundred different numbers."""
    seen = set(await kit.open("a"))
    for _ in range(100):
        await kit.drop(["a"])
        seen |= set((await kit.read("k", "a")).counters)
    assert len(seen) == 101


async def test_forgotten_counter_never_shows_an_old_number(kit):
    """A counter that the server has lost starts again with a number that it has not shown before."""
    (first,) = await kit.open("a")
    await forget(kit, "a")
    assert (await kit.read("k", "a")).counters == (None,)
    (second,) = await kit.open("a")
    await forget(kit, "a")
    await kit.drop(["a"])
    (third,) = await kit.open("a")
    assert len({first, second, third}) == 3


async def forget(kit, counter):
    """Have the server lose a counter, as eviction does."""
    name = kit.name(counter)
    if kit.store.name == "local":
        del kit.store.counters[name]
    elif kit.store.name == "redis":
        await kit.store._run(kit.how["mode"], 2.0, "DEL", name)
    else:
        token = (await kit.store._ask(kit.how["mode"], 2.0, "gets_many", [name]))[name][1]
        await kit.store._ask(kit.how["mode"], 2.0, "cas", name, b"0", 1, token)
        for _ in range(60):
            if (await kit.read("k", counter)).counters == (None,):
                return
            await asyncio.sleep(0.05)
        pytest.fail("it outlived its time")


async def test_dropped_key_is_gone(kit):
    """After a drop by key there is no value."""
    await kit.write("k", b"old", await kit.read("k"))
    await kit.drop(keys=["k"])
    assert (await kit.read("k")).blob is None


async def test_value_loaded_before_a_drop_cannot_pass_for_current(kit):
    """What was loaded before a drop is refused, or readers see that its counters have changed."""
    for dropped in (["a"], ["b"], ["a", "b"]):
        before = await kit.opened("k", "a", "b")
        await kit.drop(dropped)
        stored = await kit.write("k", b"old", before, "a", "b")
        assert not (stored and kit.store.is_atomic)
        assert (await kit.read("k", "a", "b")).counters != before.counters


async def test_value_loaded_before_a_forgotten_drop_cannot_pass_for_current(kit):
    """The same where the server has lost the dropped counter before the value is stored."""
    before = await kit.opened("k", "a")
    await kit.drop(["a"])
    await forget(kit, "a")
    stored = await kit.write("k", b"old", before, "a")
    assert not (stored and kit.store.is_atomic)
    assert (await kit.read("k", "a")).counters != before.counters


@pytest.mark.parametrize("stood", [False, True])
async def test_value_loaded_before_a_key_drop_is_refused(kit, stood):
    """What was loaded before its key was dropped is not stored after it, whether or not an older value stood then."""
    if stood:
        await kit.write("k", b"older", await kit.opened("k", "a"), "a")
    before = await kit.opened("k", "a")
    await kit.drop(["a"], ["k"])
    assert await kit.write("k", b"old", before, "a") is False
    assert (await kit.read("k")).blob is None


async def test_value_loaded_after_a_key_drop_is_stored(kit):
    """A drop does not keep newer values away."""
    await kit.open("a")
    await kit.drop(["a"], ["k"])
    assert await kit.write("k", b"new", await kit.opened("k", "a"), "a") is True
    assert (await kit.read("k")).blob == b"new"


async def test_time_to_live_ends(kit):
    """A value is gone after its time to live (memcached counts whole seconds)."""
    await kit.write("k", b"x", await kit.read("k"), ttl_s=1.0)
    assert (await kit.read("k")).blob == b"x"
    for _ in range(50):
        await asyncio.sleep(0.1)
        if (await kit.read("k")).blob is None:
            return
    pytest.fail("it outlived its time")


async def test_long_time_to_live_is_no_date(kit):
    """A time to live beyond thirty days stores, and does not mean a date in the past."""
    await kit.write("k", b"x", await kit.read("k"), ttl_s=90 * 86_400.0)
    assert (await kit.read("k")).blob == b"x"


async def test_probe_answers(kit):
    """A server that runs answers the probe."""
    assert kit.store.probe() is None


async def test_closing_twice_is_fine(kit):
    """Close is idempotent, and the store reconnects when used after it."""
    await kit.write("k", b"x", await kit.read("k"))
    await kit.store.aclose()
    await kit.store.aclose()
    if kit.store.name != "local":
        assert (await kit.read("k")).blob == b"x"


async def test_cancelled_calls_leave_no_reply_behind(kit):
    """However often callers are cancelled, no later call reads the answer of an earlier one."""
    if kit.how["mode"] == "sync" or kit.store.name == "local":
        pytest.skip("blocking calls are not cancelled")
    for number in range(8):
        await kit.write(f"k{number}", b"%d" % number, await kit.read(f"k{number}"))
    wrong = 0
    for turn in range(300):
        task = asyncio.ensure_future(kit.read(f"k{turn % 8}"))
        for _ in range(turn % 7):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        number = (turn + 3) % 8
        wrong += (await kit.read(f"k{number}")).blob != b"%d" % number
    assert wrong == 0


async def test_overrun_is_a_timeout_and_the_next_call_works(kit):
    """A call that is given next to no time gets its own answer or fails with `timeout`, and so does the next one."""
    if kit.how["mode"] == "sync" or kit.store.name == "local":
        pytest.skip("blocking clients have fixed time-outs")
    for number in range(2):
        await kit.write(f"k{number}", b"%d" % number, await kit.read(f"k{number}"))
    kinds = set()
    for turn in range(200):
        try:
            found = await kit.store.read(kit.name(f"k{turn % 2}"), [], mode="async", timeout_s=turn % 5 * 2e-5)
            assert found.blob == b"%d" % (turn % 2)
        except StoreFailedError as error:
            kinds.add(error.kind)
    assert kinds <= {"timeout"}
    assert (await kit.read("k1")).blob == b"1"


async def test_many_callers_at_once(kit):
    """Fifty callers at once each get their own value."""

    async def one(number: int) -> bool:
        await kit.write(f"k{number}", b"%d" % number, await kit.read(f"k{number}"))
        return (await kit.read(f"k{number}")).blob == b"%d" % number

    assert all(await asyncio.gather(*(one(number) for number in range(50))))


@pytest.mark.parametrize("kind", ["redis", "memcached"])
@pytest.mark.service("redis")
@pytest.mark.service("memcached")
def test_threads_and_loops_share_a_store(kind, request):
    """One store serves blocking threads and several event loops, at once and one after the other."""
    store = _store(kind, request)
    awaiting, blocking = Kit(store, "async"), Kit(store, "sync")
    failures: list[BaseException] = []

    def turn(number: int) -> None:
        async def own(kit) -> None:
            assert (await kit.read(f"k{number}")).blob is None
            assert await kit.write(f"k{number}", b"%d" % number, await kit.read(f"k{number}"))
            assert (await kit.read(f"k{number}")).blob == b"%d" % number

        try:
            asyncio.run(own(awaiting))
            asyncio.run(own(blocking))
        except BaseException as error:  # noqa: BLE001 - reported by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=turn, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert failures == []
