"""Leases that are asked for together: what becomes of those that nobody wants any more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from smw._kernel.guard import Budget
from smw.cache.coherence.listener import NEXT
from smw.cache.loading.leasing import Asked, Leasing
from smw.cache.ports import Lease, LeaseAsk, Leased
from smw.testing import FakeClock


class Lessor:
    """A server that grants every lease, and notes which it gets back."""

    def __init__(self) -> None:
        self.store, self.granted = self, asyncio.Event()
        self.held: set[Lease] = set()
        self.returned: list[tuple[list[Lease], str]] = []

    def of(self, _key):
        return self

    async def ask(self, ask, *args, **_more):
        return await ask(*args)

    async def lease(self, asks, _ttl_s):
        self.held |= {Lease(each.key, (1,)) for each in asks}
        self.granted.set()
        return [Leased((1,), leads=True, is_filled=False, left_s=0.0) for _ in asks]

    async def release(self, leases, how):
        self.returned.append((list(leases), how))
        return True

    def forget(self, lease):
        held = lease in self.held
        self.held.discard(lease)
        return held


def leasing_of(server):
    """Return the leases of a cache whose only server is that one."""
    remote = SimpleNamespace(tiers=[server])
    return Leasing(SimpleNamespace(host=SimpleNamespace(clock=FakeClock()), remote=remote, budget=lambda: None))


async def test_a_lease_that_is_granted_to_one_who_leaves_in_that_moment_is_given_back():
    """Whoever is cancelled between the answer and its own next step keeps nobody waiting."""
    server = Lessor()
    leasing = leasing_of(server)
    asked = Asked(LeaseAsk("k", ("k~",), is_absent=True), 60.0, Budget(FakeClock(), 1.0))
    caller = asyncio.ensure_future(leasing.one(asked, "async", is_stepped=False))
    await server.granted.wait()
    caller.cancel()
    await asyncio.wait([caller])
    for _ in range(10):
        await asyncio.sleep(0)
    assert caller.cancelled()
    assert server.held == set()
    assert server.returned == [([Lease("k", (1,))], NEXT)]


async def test_who_gives_a_lease_back_waits_for_that_however_often_it_is_cancelled():
    """A loop that ends cancels whoever is in a cached call, twice at times, and runs nothing that they leave behind."""
    server, lease = Lessor(), Lease("k", (1,))
    may, server.held = asyncio.Event(), {lease}
    answer = server.release

    async def release(leases, how):
        await may.wait()
        return await answer(leases, how)

    server.release = release
    giver = asyncio.ensure_future(leasing_of(server).give_back(lease, NEXT, "async", is_stepped=False))
    for _ in range(3):
        for _ in range(5):
            await asyncio.sleep(0)
        giver.cancel()
    assert not giver.done()
    may.set()
    await asyncio.wait([giver], timeout=10)
    assert giver.cancelled()
    assert server.returned == [([lease], NEXT)]
