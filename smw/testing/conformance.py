"""What every store of cached values must do, as a pytest class to inherit from; knows no store.

The cache's own stores pass the very same checks. It needs pytest and no plug-in of it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from smw.cache.ports import Batcher, Lister, Measurer, StoreFailedError
from smw.cache.warming.hot import Hearth
from smw.testing.kit import TIMEOUT_S, Kit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from smw._kernel.call import Mode
    from smw.cache.ports import Store

__all__ = ["Kit", "StoreConformance"]

_SLACK_S = 2.0


def _checked(check: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Return `check` as a test without a coroutine: in an event loop of its own, in which the store is closed."""

    @functools.wraps(check)
    def test(self: StoreConformance, kit: Kit, **given: Any) -> None:
        async def whole() -> None:
            try:
                await check(self, kit, **given)
            finally:
                await kit.store.aclose()

        asyncio.run(whole())

    return test


async def _within(seconds: float, holds: Callable[[], Awaitable[bool]]) -> bool:
    until = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.05)
    return True


class StoreConformance:
    """Inherit from it, and give the fixture `store`; further fixtures and `forget` let more be checked."""

    @pytest.fixture
    def store(self) -> Store:
        """Return the store to check."""
        pytest.fail("give the class a fixture `store` that returns your store")

    @pytest.fixture
    def unreachable(self) -> Store:
        """Return a store whose server does not answer."""
        # Only its author can make one, and the checks of the others stand without.
        pytest.skip("there is no fixture `unreachable` that returns a store without its server")

    @pytest.fixture(params=["async", "sync"])
    def kit(self, request: pytest.FixtureRequest, store: Store) -> Kit:
        """Return the store with the mode to use it in: awaiting and blocking callers share one store."""
        return Kit(store, request.param)

    async def forget(self, kit: Kit, counter: str) -> None:  # noqa: ARG002 - for those who can
        """Have the server lose a counter, whose full name is `counter`, as eviction does."""
        # Not every server can be told to lose what it has.
        pytest.skip("there is no method `forget` that has the server lose a counter")

    @_checked
    async def test_absent_key_is_found_without_value(self, kit: Kit) -> None:
        """Reading what was never written brings no bytes, and no number for an unknown counter."""
        found = await kit.read("k", "a")
        assert found.blob is None
        assert found.counters == (None,)

    @pytest.mark.parametrize("blob", [b"", b"x", b"\r\nEND\r\n\x00\xff" * 7, os.urandom(200_000)], ids=len)
    @_checked
    async def test_bytes_come_back_as_written(self, kit: Kit, blob: bytes) -> None:
        """Every sequence of bytes comes back as it was, protocol delimiters included."""
        assert await kit.write("k", blob, await kit.read("k")) is True
        assert (await kit.read("k")).blob == blob

    @_checked
    async def test_opened_counter_stays(self, kit: Kit) -> None:
        """Opening a counter twice returns the same positive number, which reads bring too."""
        first = await kit.open("a", "b")
        assert all(number > 0 for number in first)
        assert await kit.open("a", "b") == first
        assert (await kit.read("k", "a", "b")).counters == first

    @_checked
    async def test_a_drop_changes_the_named_counter_alone(self, kit: Kit) -> None:
        """After a drop the counter shows another number and its neighbour the same."""
        a, b = await kit.open("a", "b")
        await kit.drop(["a"])
        now = await kit.read("k", "a", "b")
        assert now.counters[0] != a
        assert now.counters[1] == b

    @_checked
    async def test_a_drop_that_tells_numbers_tells_those_that_are_shown(self, kit: Kit) -> None:
        """Where a drop returns what its counters show, reads show that too, and it is more than before."""
        before = await kit.open("a", "b")
        for _ in range(3):
            told = await kit.drop(["a", "b"])
            if told is None:
                return  # a server that can only lose everything need not tell
            assert (await kit.read("k", "a", "b")).counters == told
            assert all(new > old for new, old in zip(told, before, strict=True))
            before = tuple(told)

    @_checked
    async def test_numbers_never_return(self, kit: Kit) -> None:
        """Hundred drops give hundred different numbers."""
        seen: set[int | None] = {*await kit.open("a")}
        for _ in range(100):
            await kit.drop(["a"])
            seen |= set((await kit.read("k", "a")).counters)
        assert len(seen) == 101

    @_checked
    async def test_forgotten_counter_never_shows_an_old_number(self, kit: Kit) -> None:
        """A counter that the server has lost starts again with a number that it has not shown before."""
        (first,) = await kit.open("a")
        await self.forget(kit, kit.name("a"))
        assert (await kit.read("k", "a")).counters == (None,)
        (second,) = await kit.open("a")
        await self.forget(kit, kit.name("a"))
        await kit.drop(["a"])
        (third,) = await kit.open("a")
        assert len({first, second, third}) == 3

    @_checked
    async def test_dropped_key_is_gone(self, kit: Kit) -> None:
        """After a drop by key there is no value."""
        await kit.write("k", b"old", await kit.read("k"))
        await kit.drop(keys=["k"])
        assert (await kit.read("k")).blob is None

    @_checked
    async def test_value_loaded_before_a_drop_cannot_pass_for_current(self, kit: Kit) -> None:
        """What was loaded before a drop is refused, or readers see that its counters have changed."""
        for dropped in (["a"], ["b"], ["a", "b"]):
            before = await kit.opened("k", "a", "b")
            await kit.drop(dropped)
            stored = await kit.write("k", b"old", before, "a", "b")
            assert not (stored and kit.store.is_atomic)
            assert (await kit.read("k", "a", "b")).counters != before.counters

    @_checked
    async def test_value_loaded_before_a_forgotten_drop_cannot_pass_for_current(self, kit: Kit) -> None:
        """The same where the server has lost the dropped counter before the value is stored."""
        before = await kit.opened("k", "a")
        await kit.drop(["a"])
        await self.forget(kit, kit.name("a"))
        stored = await kit.write("k", b"old", before, "a")
        assert not (stored and kit.store.is_atomic)
        assert (await kit.read("k", "a")).counters != before.counters

    @pytest.mark.parametrize("stood", [False, True])
    @_checked
    async def test_value_loaded_before_a_key_drop_is_refused(self, kit: Kit, stood: bool) -> None:  # noqa: FBT001
        """What was loaded before its key was dropped is not stored after it, whether or not an older value stood."""
        if stood:
            await kit.write("k", b"older", await kit.opened("k", "a"), "a")
        before = await kit.opened("k", "a")
        await kit.drop(["a"], ["k"])
        assert await kit.write("k", b"old", before, "a") is False
        assert (await kit.read("k")).blob is None

    @_checked
    async def test_value_loaded_without_counters_is_refused(self, kit: Kit) -> None:
        """A counter that is missing shows no drop, so that nothing is stored under it."""
        unopened = await kit.read("k", "a")
        assert not (await kit.write("k", b"old", unopened, "a") and kit.store.is_atomic)

    @_checked
    async def test_value_written_while_its_key_is_dropped_is_not_left(self, kit: Kit) -> None:
        """A store that says that it compares in the instant in which it stores does so beside other requests."""
        for _ in range(20 if kit.store.is_atomic else 0):
            before = await kit.opened("k", "a")
            await kit.at_once(kit.write("k", b"old", before, "a"), kit.drop(["a"], ["k"]))
            assert (await kit.read("k")).blob is None

    @_checked
    async def test_value_loaded_after_a_key_drop_is_stored(self, kit: Kit) -> None:
        """A drop does not keep newer values away."""
        await kit.open("a")
        await kit.drop(["a"], ["k"])
        assert await kit.write("k", b"new", await kit.opened("k", "a"), "a") is True
        assert (await kit.read("k")).blob == b"new"

    @_checked
    async def test_time_to_live_ends(self, kit: Kit) -> None:
        """A value is gone after its time to live (a server may count whole seconds), that of the last write."""
        for key, ttl_s in (("k", 1.0), ("short", 0.2), ("again", 60.0), ("again", 1.0)):
            await kit.write(key, b"x", await kit.read(key), ttl_s=ttl_s)
        assert (await kit.read("again")).blob == b"x"

        async def is_gone() -> bool:
            return [(await kit.read(key)).blob for key in ("k", "short", "again")] == [None] * 3

        assert await _within(5.0, is_gone)

    @_checked
    async def test_long_time_to_live_is_no_date(self, kit: Kit) -> None:
        """A time to live beyond thirty days stores, and does not mean a date in the past; twenty years are the most."""
        for name, days in (("k", 90), ("l", 2 * 3650)):  # a result may live ten years, and stand in for ten more
            assert await kit.store.open([kit.name(f"{name}-tag")], days * 86_400.0, **kit.how)
            await kit.write(name, b"x", await kit.read(name), ttl_s=days * 86_400.0)
            found = await kit.read(name, f"{name}-tag")
            assert found.blob == b"x"
            assert None not in found.counters

    @_checked
    async def test_probe_answers(self, kit: Kit) -> None:
        """A server that runs answers the probe."""
        kit.store.probe()
        assert (await kit.read("k")).blob is None

    @_checked
    async def test_closing_twice_is_fine(self, kit: Kit) -> None:
        """Close is idempotent, and the store reconnects when used after it."""
        await kit.write("k", b"x", await kit.read("k"))
        await kit.store.aclose()
        await kit.store.aclose()
        assert (await kit.read("k")).blob == b"x"

    @_checked
    async def test_cancelled_calls_leave_no_reply_behind(self, kit: Kit) -> None:
        """However often callers are cancelled, no later call reads the answer of an earlier one."""
        if kit.mode == "sync":
            pytest.skip("blocking calls are not cancelled")  # nothing to check: a thread cannot be
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

    @_checked
    async def test_overrun_is_a_timeout_and_the_next_call_works(self, kit: Kit) -> None:
        """A call that is given next to no time gets its answer or fails with `timeout` or `lag`; the next one too."""
        if kit.mode == "sync":
            pytest.skip("blocking clients may have fixed time-outs")  # the port allows for it
        for number in range(2):
            await kit.write(f"k{number}", b"%d" % number, await kit.read(f"k{number}"))
        kinds = set()
        for turn in range(200):
            try:
                found = await kit.store.read(kit.name(f"k{turn % 2}"), [], mode="async", timeout_s=turn % 5 * 2e-5)
                assert found.blob == b"%d" % (turn % 2)
            except StoreFailedError as error:
                kinds.add(error.kind)
        assert kinds <= {"timeout", "lag"}
        assert (await kit.read("k1")).blob == b"1"

    @_checked
    async def test_many_callers_at_once(self, kit: Kit) -> None:
        """Fifty callers at once each get their own value."""

        async def one(number: int) -> bool:
            await kit.write(f"k{number}", b"%d" % number, await kit.read(f"k{number}"))
            return (await kit.read(f"k{number}")).blob == b"%d" % number

        assert all(await asyncio.gather(*(one(number) for number in range(50))))

    @_checked
    async def test_a_store_that_can_read_many_answers_as_for_each(self, kit: Kit) -> None:
        """Reading many keys with their counters at once shows what reading them one by one shows."""
        if not isinstance(kit.store, Batcher):
            pytest.skip("it reads one key at a time")  # an optional port
        for number in range(3):
            found = await kit.opened(f"k{number}", f"f{number}", "t")
            await kit.write(f"k{number}", b"%d" % number, found, f"f{number}", "t")
        asked = [(f"k{number}", (f"f{number}", "t", "absent")[: number + 1]) for number in range(4)]
        named = [(kit.name(key), [kit.name(name) for name in names]) for key, names in asked]
        many = await kit.store.read_many(named, **kit.how)
        single = [await kit.read(key, *names) for key, names in asked]
        assert [(each.blob, each.counters) for each in many] == [(each.blob, each.counters) for each in single]

    @_checked
    async def test_a_store_that_can_list_lists_its_keys(self, kit: Kit) -> None:
        """Where a store has `keys`, it yields every key and counter of a prefix, and none of another."""
        if not isinstance(kit.store, Lister):
            pytest.skip("the store has no method `keys`")  # an optional port
        for key in ("k1", "k2"):
            await kit.write(key, b"x", await kit.read(key))
        await kit.open("a")
        assert {*kit.store.keys(kit.name(""), 10)} == {kit.name(name) for name in ("k1", "k2", "a")}
        assert list(kit.store.keys(kit.name("none"), 10)) == []

    @_checked
    async def test_a_store_that_can_tell_its_figures_tells_known_ones(self, kit: Kit) -> None:
        """Where a store has `figures`, they have the names that tools show, and numbers but for the note."""
        if not isinstance(kit.store, Measurer):
            pytest.skip("the store has no method `figures`")  # an optional port
        await kit.write("k", b"x", await kit.read("k"))
        told = dict(kit.store.figures())
        note = told.pop("note", "")
        assert told.keys() <= {"entries", "bytes", "hits", "misses", "evictions"}
        assert all(isinstance(number, int) for number in told.values())
        assert isinstance(note, str)

    @_checked
    async def test_a_store_that_remembers_what_is_hot_bounds_it(self, kit: Kit) -> None:
        """Where a store has `tell_hot`, it adds up counts, keeps the highest, and tells sizes of values alone."""
        if not isinstance(kit.store, Hearth):
            pytest.skip("the store has no methods `tell_hot`, `hottest` and `sizes`")  # an optional port
        name, how = kit.name("hot"), kit.how
        assert await kit.store.hottest(name, 10, 10, **how) == []
        await kit.store.tell_hot(name, [("a", 2.0), ("b", 3.0), ("long" * 9, 9.0)], 4, **how)
        await kit.store.tell_hot(name, [("a", 2.0), ("c", 1.0), ("d", 1.5)], 4, **how)
        found = await kit.store.hottest(name, 10, 10, **how)
        assert [member for member, _ in found] == ["a", "b", "d"]
        assert [member for member, _ in await kit.store.hottest(name, 2, 10, **how)] == ["a"]
        await kit.write("k", b"12345", await kit.read("k"))
        assert await kit.store.sizes([kit.name("k"), kit.name("absent"), name], **how) == [5, 0, 0]

    def test_threads_and_loops_share_a_store(self, store: Store) -> None:
        """One store serves blocking threads and several event loops, at once and one after the other."""
        failures: list[BaseException] = []

        async def own(kit: Kit, number: int) -> None:
            assert (await kit.read(f"k{number}")).blob is None
            assert await kit.write(f"k{number}", b"%d" % number, await kit.read(f"k{number}"))
            assert (await kit.read(f"k{number}")).blob == b"%d" % number

        def turn(number: int) -> None:
            try:
                asyncio.run(own(Kit(store, "async"), number))
                asyncio.run(own(Kit(store, "sync"), number))
            except BaseException as error:  # noqa: BLE001 - reported by the assertion below
                failures.append(error)

        threads = [threading.Thread(target=turn, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.close()
        assert failures == []

    @pytest.mark.parametrize("mode", ["async", "sync"])
    def test_no_server_is_a_failure_in_time(self, unreachable: Store, mode: Mode) -> None:
        """Where no server answers, every request and the probe end as failed, and within their time."""
        kit = Kit(unreachable, mode)

        async def all_fail() -> None:
            found = kit.read("k", "a")
            for request in (found, kit.open("a"), kit.drop(["a"], ["k"])):
                began = time.monotonic()
                with pytest.raises(StoreFailedError):
                    await request
                assert time.monotonic() - began < TIMEOUT_S + _SLACK_S
            with pytest.raises(StoreFailedError):
                kit.store.probe()
            await kit.store.aclose()

        asyncio.run(all_fail())
