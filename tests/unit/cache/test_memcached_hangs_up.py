"""A memcached that hangs up in the middle of a reply: the operation fails, and the event loop goes on."""

from __future__ import annotations

import asyncio

import pytest

from smw._kernel.clock import SystemClock, SystemEntropy
from smw.cache.ports import Found, StoreFailedError
from smw.cache.stores.memcached import MemcachedStore

NOTHING = Found(None, ())


@pytest.mark.parametrize("said", [b"", b"STO", b"STORED\n"])
@pytest.mark.parametrize("what", ["read", "write", "drop", "open"])
async def test_a_reply_that_is_cut_off(what, said):
    """Whatever was asked fails at once as a lost connection, or as no answer of memcached's, and the next one too."""
    asked = []

    async def serve(reader, writer):
        asked.append(await reader.readline())
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    store = MemcachedStore(address, timeout_s=5.0, clock=SystemClock(), entropy=SystemEntropy())
    how = {"mode": "async", "timeout_s": 5.0}
    calls = {
        "read": lambda: store.read("k", ("c",), **how),
        "write": lambda: store.write("k", b"v", 60.0, counters=(), found=NOTHING, **how),
        "drop": lambda: store.drop(("c",), ("k",), **how),
        "open": lambda: store.open(("c",), 60.0, **how),
    }
    for count in (1, 2):
        with pytest.raises(StoreFailedError) as caught:
            await asyncio.wait_for(calls[what](), 5)
        assert caught.value.kind in ("connection", "protocol")
        assert len(asked) >= count
    await store.aclose()
    server.close()
    await server.wait_closed()
