"""Coroutines that wait for one answer together, and what each of them may still do alone."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from smw._kernel.clock import SystemClock
from smw._kernel.guard import Allowance
from smw.cache.levels.joint import Joint


class Server:
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = asyncio.Event()

    async def ask(self) -> None:
        self.asked += 1
        await self.answers.wait()


@pytest.fixture
def joint():
    return Joint(SystemClock())


def budget(seconds: float) -> Allowance:
    return Allowance(SystemClock(), seconds)


async def test_many_wait_for_one_answer(joint):
    """Who comes while it is asked waits for the same answer; who comes afterwards asks anew."""
    server = Server()
    waits = [asyncio.create_task(joint.wait(server.ask, budget(60))) for _ in range(50)]
    await asyncio.sleep(0.01)
    assert server.asked == 1
    server.answers.set()
    assert await asyncio.gather(*waits) == [True] * 50
    assert await joint.wait(server.ask, budget(60))
    assert server.asked == 2


async def test_who_asked_first_may_leave(joint):
    """The others have their answer, of the same question."""
    server = Server()
    waits = [asyncio.create_task(joint.wait(server.ask, budget(60))) for _ in range(3)]
    await asyncio.sleep(0.01)
    waits[0].cancel()
    await asyncio.sleep(0.01)
    server.answers.set()
    found = await asyncio.gather(*waits, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert (found[1:], server.asked) == ([True, True], 1)


async def test_each_waits_within_its_own_budget(joint):
    """A budget that ends before the answer ends the wait of its caller alone; what was waited is spent."""
    server, little, none = Server(), budget(0.02), budget(0)
    long = asyncio.create_task(joint.wait(server.ask, budget(60)))
    assert not await asyncio.wait_for(joint.wait(server.ask, little), 30)
    assert little.left_s() == 0.0
    assert not await joint.wait(server.ask, none)
    assert not long.done()
    server.answers.set()
    assert await long
    assert server.asked == 1


async def test_a_loop_that_is_busy_before_it_asks_spends_no_budget(joint):
    """What the tick takes in which the callers come is not the server's."""
    server, spent = Server(), budget(0.05)
    server.answers.set()
    wait = asyncio.create_task(joint.wait(server.ask, spent))
    asyncio.get_running_loop().call_soon(lambda: SystemClock().pause(0.2))
    assert await wait
    assert spent.left_s() > 0.0


def test_a_loop_that_is_gone_leaves_nothing_behind(joint):
    """Each loop asks for itself, and one that was closed while it asked is forgotten by the next one that does."""

    async def left_alone(server: Server) -> None:
        wait = asyncio.create_task(joint.wait(server.ask, budget(60)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (server.asked, wait.done()) == (1, False)

    async def answered() -> bool:
        server = Server()
        server.answers.set()
        return await joint.wait(server.ask, budget(60))

    asyncio.run(left_alone(Server()))
    assert asyncio.run(answered())
    loop = asyncio.new_event_loop()
    gone = weakref.ref(loop)
    assert loop.run_until_complete(answered())
    loop.close()  # with all that was in it
    del loop
    gc.collect()
    assert gone() is not None, "or this test shows nothing"
    assert asyncio.run(answered())
    gc.collect()
    assert gone() is None
