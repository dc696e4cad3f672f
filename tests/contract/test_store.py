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

    async def read(self, key, *tags):
        return await self.store.read(self.name(key), [self.name(tag) for tag in tags], **self.how)

    async def open(self, *tags):
        return await self.store.open([self.name(tag) for tag in tags], 60.0, **self.how)

    async def opened(self, key, *tags):
        """Read, and start the generations that do not exist, as before a load."""
        found = await self.read(key, *tags)
        generations = await self.open(*tags)
        return found._replace(versions=found.versions._replace(generations=generations))

    async def write(self, key, blob, found, *tags, ttl_s=60.0):
        names = [self.name(tag) for tag in tags]
        return await self.store.write(self.name(key), blob, ttl_s, tags=names, found=found, **self.how)

    async def drop(self, tags=(), keys=()):
        await self.store.drop([self.name(tag) for tag in tags], [self.name(key) for key in keys], **self.how)


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
    """Reading what was never written brings no bytes, and no generation for an unknown tag."""
    found = await kit.read("k", "tag")
    assert found.blob is None
    assert found.versions.generations == (None,)


@pytest.mark.parametrize("blob", [b"", b"x", b"\r\nEND\r\n\x00\xff" * 7, os.urandom(200_000)], ids=len)
async def test_bytes_come_back_as_written(kit, blob):
    """Every sequence of bytes comes back as it was, protocol delimiters included."""
    assert await kit.write("k", blob, await kit.read("k")) is True
    assert (await kit.read("k")).blob == blob


async def test_opened_generation_stays(kit):
    """Opening a tag twice returns the same positive number, which reads bring too."""
    first = await kit.open("a", "b")
    assert all(number > 0 for number in first)
    assert await kit.open("a", "b") == first
    assert (await kit.read("k", "a", "b")).versions.generations == first


async def test_dropping_a_tag_changes_its_generation_alone(kit):
    """After a drop the tag has another generation and its neighbour the same."""
    a, b = await kit.open("a", "b")
    await kit.drop(tags=["a"])
    now = await kit.read("k", "a", "b")
    assert now.versions.generations[0] != a
    assert now.versions.generations[1] == b


async def test_generations_never_return(kit):
    """Hundred drops give hundred different generations."""
    seen = set(await kit.open("a"))
    for _ in range(100):
        await kit.drop(tags=["a"])
        seen |= set((await kit.read("k", "a")).versions.generations)
    assert len(seen) == 101


async def test_dropped_key_is_gone(kit):
    """After a drop by key there is no value."""
    await kit.write("k", b"old", await kit.read("k"))
    await kit.drop(keys=["k"])
    assert (await kit.read("k")).blob is None


async def test_value_loaded_before_a_key_drop_is_refused(kit):
    """What was loaded before its key was dropped is not stored after it."""
    before = await kit.read("k")
    await kit.drop(keys=["k"])
    assert await kit.write("k", b"old", before) is False
    assert (await kit.read("k")).blob is None


async def test_value_loaded_over_another_before_a_key_drop_is_refused(kit):
    """The same where an older value stood when it was loaded."""
    await kit.write("k", b"older", await kit.read("k"))
    before = await kit.read("k")
    await kit.drop(keys=["k"])
    assert await kit.write("k", b"old", before) is False
    assert (await kit.read("k")).blob is None


async def test_value_loaded_after_a_key_drop_is_stored(kit):
    """A drop does not keep newer values away."""
    await kit.drop(keys=["k"])
    assert await kit.write("k", b"new", await kit.read("k")) is True
    assert (await kit.read("k")).blob == b"new"


async def test_value_loaded_before_a_tag_drop_cannot_pass_for_current(kit):
    """What was loaded before its tag was dropped is refused, or carries a generation that no longer stands."""
    before = await kit.opened("k", "a")
    await kit.drop(tags=["a"])
    stored = await kit.write("k", b"old", before, "a")
    now = await kit.read("k", "a")
    assert not stored or now.versions.generations != before.versions.generations


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
