"""What a store of somebody else's does wrong is a failure of that server, and nobody else's."""

from __future__ import annotations

import asyncio

import pytest

from smw import plugins
from smw._kernel.clock import SystemClock
from smw.cache import Cache, Found
from smw.cache.ports import Lister, StoreFailedError
from smw.cache.stores.local import LocalStore
from smw.cache.stores.supervised import supervised


class Wayward(LocalStore):
    """A store that works until it is told how to go wrong.

    Attributes:
        answers: What a method returns instead, by its name; an exception is raised, a number slept for.
    """

    def __init__(self, url, *, timeout_s):
        super().__init__("memory://wayward-" + str(id(self)), clock=SystemClock())
        self.answers = {}

    async def _gone_wrong(self, name, answer):
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        return answer

    async def read(self, *args, **more):
        if "read" in self.answers:
            return await self._gone_wrong("read", self.answers["read"])
        return await super().read(*args, **more)

    async def open(self, *args, **more):
        if "open" in self.answers:
            return await self._gone_wrong("open", self.answers["open"])
        return await super().open(*args, **more)

    async def drop(self, *args, **more):
        if "drop" in self.answers:
            return await self._gone_wrong("drop", self.answers["drop"])
        return await super().drop(*args, **more)


@pytest.fixture(params=["sync", "async"])
def mode(request):
    """The caller's mode."""
    return request.param


@pytest.fixture
def wayward(monkeypatch):
    """Return a cache on such a store, and the store."""
    monkeypatch.setattr(plugins, "names", lambda _group: ["wayward"])
    monkeypatch.setattr(plugins, "load", lambda _group, scheme: Wayward if scheme == "wayward" else None)
    cache = Cache(namespace="wayward", l2_url="wayward://", budget_ms=200)
    yield cache, cache.engine.remote.servers[0].store.asked
    cache.close()


WRONG = [
    ("read", None), ("read", "garbage"), ("read", Found("text", ())), ("read", Found(None, ())),
    ("read", Found(None, ("x", "x", "x"))), ("read", RuntimeError("boom")), ("read", 30.0),
    ("open", None), ("open", ()), ("open", ("x", "x", "x")), ("open", StoreFailedError("refused")),
]  # fmt: skip


@pytest.mark.parametrize(("method", "answer"), WRONG)
async def test_callers_never_notice(wayward, mode, method, answer):
    """Whatever it answers, or does not in time, its caller gets the function's result, and the server is to blame."""
    cache, store = wayward
    level = cache.engine.remote.servers[0]

    if mode == "sync":

        @cache.cached(60, tags=["u:{x}"])
        def load(x: int) -> int:
            return x
    else:

        @cache.cached(60, tags=["u:{x}"])
        async def load(x: int) -> int:
            return x

    async def called(x):
        return load(x) if mode == "sync" else await load(x)

    assert await called(1) == 1
    assert not level.errors
    store.answers[method] = answer
    async with asyncio.timeout(10):
        assert [await called(x) for x in (2, 3)] == [2, 3]
    assert set(level.errors) <= {"protocol", "timeout", "refused", "budget"}
    assert sum(level.errors.values()) >= 2


async def test_a_drop_that_fails_is_owed(wayward, mode):
    """A store that suspends, raises or hangs in a drop fails nobody, and owes it."""
    cache, store = wayward
    store.answers["drop"] = 30.0

    @cache.invalidate(tags=["u:{x}"])
    def change(x: int) -> str:
        return "changed"

    @cache.invalidate(tags=["u:{x}"])
    async def change_async(x: int) -> str:
        return "changed"

    async with asyncio.timeout(10):
        assert (change(1) if mode == "sync" else await change_async(1)) == "changed"
    assert len(cache.engine.remote.servers[0].debt) == 1
    store.answers.clear()


def test_what_it_offers_beside_is_still_there():
    """`keys` of a store that lists is found on the outside, and a store without it offers none."""
    store = supervised(Wayward("wayward://", timeout_s=1))
    assert isinstance(store, Lister)
    assert list(store.keys("x", 10)) == []

    class Bare:
        name, is_atomic = "bare", True

    assert not isinstance(supervised(Bare()), Lister)


def test_closing_goes_on(caplog):
    """An exception in closing is logged."""

    class Clinging(Wayward):
        def close(self):
            raise RuntimeError("not yet")

        async def aclose(self):
            raise RuntimeError("not yet")

    store = supervised(Clinging("wayward://", timeout_s=1))
    store.close()
    asyncio.run(store.aclose())
    assert [record.getMessage() for record in caplog.records] == [f"closing {store.name} has failed"] * 2
