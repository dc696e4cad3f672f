"""Objects that belong to an event loop are closed with it."""

from __future__ import annotations

import asyncio
import gc
import threading

from smw._kernel.loops import PerLoop


class Client:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed_in: asyncio.AbstractEventLoop | None = None

    async def aclose(self) -> None:
        self.closed_in = asyncio.get_running_loop()


def make() -> PerLoop:
    return PerLoop(Client, Client.aclose)


def test_each_loop_has_its_own_and_closes_it():
    """Two runs get two objects, each closed in its own loop before that ends."""
    clients = make()

    async def use():
        assert clients.get() is clients.get()
        return clients.get()

    one, two = asyncio.run(use()), asyncio.run(use())
    assert one is not two
    assert (one.closed_in, two.closed_in) == (one.loop, two.loop)


def test_it_closes_even_if_nobody_holds_it():
    """An owner that is collected while the loop runs leaves nothing open."""

    async def use():
        client = make().get()
        gc.collect()
        await asyncio.sleep(0)
        return client

    client = asyncio.run(use())
    assert client.closed_in is client.loop


async def test_closing_by_hand_is_idempotent():
    """`aclose` closes the running loop's object once, and the next `get` makes a new one."""
    clients = make()
    client = clients.get()
    await clients.aclose()
    await clients.aclose()
    assert client.closed_in is client.loop
    assert clients.get() is not client
    await clients.aclose()


async def test_replaced_object_is_not_handed_out_again():
    """After `replace` the loop has another object, which closes with it; a second `replace` of the old does nothing."""
    clients = make()
    old = clients.get()
    clients.replace(old)
    new = clients.get()
    clients.replace(old)
    assert clients.get() is new is not old
    await clients.aclose()
    assert new.closed_in is new.loop
    assert old.closed_in is None


def test_closing_from_blocking_code_reaches_every_loop():
    """`close` has each object closed in its own loop, from any thread."""
    clients = make()
    ready, end = threading.Event(), threading.Event()
    seen: list[Client] = []

    async def use() -> None:
        seen.append(clients.get())
        ready.set()
        while seen[0].closed_in is None and not end.is_set():  # noqa: ASYNC110 - another thread sets them
            await asyncio.sleep(0.001)

    thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    ready.wait(5)
    clients.close()
    thread.join(5)
    end.set()
    assert seen[0].closed_in is seen[0].loop
    clients.close()
