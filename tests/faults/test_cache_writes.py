"""Writers while Redis hangs or is killed: no call fails or waits, and no value is older than promised."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from smw.cache import Cache
from tests.services.stopwatch import Stopwatch

pytestmark = [pytest.mark.timed, pytest.mark.service("redis")]
HUNG_S = 0.5  # two questions to a hung server, each within a budget of 0.1 s, on a busy machine
BACK_S = 3.0  # the promise is one second


class Users:
    """One process."""

    def __init__(self, namespace, url, mode, names, strategy, **options) -> None:
        self.cache = Cache(namespace=namespace, l2_host=url, **options)
        self.mode, self.names = mode, names
        value = (lambda _result, arguments: arguments["name"]) if strategy == "write_back" else None

        def get(user_id: int) -> str:
            return names.get(user_id, "?")

        def put(user_id: int, name: str) -> str:
            names[user_id] = name
            return name

        async def get_async(user_id: int) -> str:
            return get(user_id)

        async def put_async(user_id: int, name: str) -> str:
            return put(user_id, name)

        read, write = (get, put) if mode == "sync" else (get_async, put_async)
        self.get = self.cache.cached(60, key=lambda user_id: user_id)(read)
        self.put = self.cache.writes(self.get, strategy=strategy, value=value)(write)

    async def timed(self, call, *args):
        """Return the result of a call and the seconds it took."""
        watch = Stopwatch()
        result = call(*args)
        return (await result if self.mode == "async" else result), watch.took_s()


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("strategy", ["write_through", "write_around", "write_back"])
@pytest.mark.parametrize("fault", ["hangs", "is killed"])
async def test_a_write_while_redis_is_away(service_factory, mode, strategy, fault, tmp_path):
    """The call succeeds in time, this process reads the new value at once, and others once the server is back."""
    server, namespace, names = service_factory("redis"), uuid.uuid4().hex, {1: "Ada"}
    options = {"state_dir": tmp_path} if strategy == "write_back" else {}
    there, here = (Users(namespace, server.url, mode, names, strategy, **options) for _ in range(2))
    for users in (here, there):
        assert (await users.timed(users.get, 1))[0] == "Ada"
    server.pause() if fault == "hangs" else server.kill()
    took = [(await here.timed(here.put, 1, name))[1] for name in ("Eve", "Bob")]
    value, read_s = await here.timed(here.get, 1)
    assert value == "Bob"
    assert max(*took, read_s) < HUNG_S
    server.resume() if fault == "hangs" else server.start()
    back = Stopwatch()
    while (await there.timed(there.get, 1))[0] != "Bob":
        assert back.took_s() < BACK_S
        await asyncio.sleep(0.02)
    await here.cache.aclose()
    await there.cache.aclose()
    assert names == {1: "Bob"}
