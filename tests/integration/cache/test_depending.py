"""Results made from others, over real servers: what one process drops far below is old in all of them."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial

import pytest

from smw.cache import Cache, info

SHAPES = ("sync", "async", "method")
pytestmark = [pytest.mark.service("redis"), pytest.mark.service("memcached")]


class Site:
    """A process with a user and a page made from two of them, blocking or async, functions or methods."""

    def __init__(self, cache: Cache, shape: str) -> None:
        self.cache = cache
        self.runs: list[str] = []
        runs, mine = self.runs, {"key": lambda *args: args[-1]}

        if shape == "async":

            @cache.cached(60, tags=["user:{number}"], **mine)
            async def user(number: int) -> int:
                runs.append(f"user {number}")
                return number

            @cache.cached(60, depends="auto", **mine)
            async def page(number: int) -> list[int]:
                runs.append("page")
                return await asyncio.gather(user(number), user(number + 1))
        else:

            @cache.cached(60, tags=["user:{number}"], **mine)
            def user(number: int) -> int:
                runs.append(f"user {number}")
                return number

            @cache.cached(60, depends="auto", version=shape, **mine)
            def page(number: int) -> list[int]:
                runs.append("page")
                return [user(number), user(number + 1)]

        class Pages:
            @cache.cached(60, depends="auto", version="method", **mine)
            def page(self, number: int) -> list[int]:
                runs.append("page")
                return [user(number), user(number + 1)]

        self.page = Pages().page if shape == "method" else page
        self.is_async = shape == "async"

    async def ran(self) -> list[str]:
        """Ask for the page, and return what that has loaded."""
        del self.runs[:]
        assert (await self.page(1) if self.is_async else await asyncio.to_thread(self.page, 1)) == [1, 2]
        return sorted(self.runs)


@pytest.mark.parametrize("levels", [("l2",), ("l3",), ("l2", "l3")], ids=str)
async def test_a_drop_of_a_part_reaches_the_whole_everywhere(steady, levels):
    """A stored page is taken by other processes until a part is dropped, and then by none, memory included."""
    await asyncio.gather(*(_drops(partial(steady, *levels, namespace=uuid.uuid4().hex), shape) for shape in SHAPES))


async def _drops(begun, shape):
    one, two = Site(begun(), shape), Site(begun(), shape)
    assert await one.ran() == ["page", "user 1", "user 2"]
    assert await two.ran() == []
    await begun().drop(tags=["user:2"])
    three = Site(begun(), shape)
    assert await three.ran() == ["page", "user 2"]
    await asyncio.sleep(1.1)  # what memory may be behind, where nobody is told of drops
    assert await one.ran() == await two.ran() == []
    three.cache.drop_sync(tags=["user:1"])
    await asyncio.sleep(1.1)
    assert await one.ran() == ["page", "user 1"]
    assert info(one.page).uncached == 0
    for each in (one, two, three):
        await each.cache.aclose()


@pytest.mark.parametrize("levels", [("l2",), ("l3",), ("l2", "l3")], ids=str)
async def test_the_token_of_a_drop_puts_its_reader_ahead_of_memory(steady, levels):
    """Another process that has trusted its memory a moment ago asks the servers for who comes with the token."""
    one, two, source = steady(*levels), steady(*levels), ["old"]

    def made(cache):
        @cache.cached(60, tags=["user"], key=lambda: 1)
        async def user() -> str:
            return source[0]

        return user

    here, there = made(one), made(two)
    assert await here() == await there() == "old"
    source[0] = "new"
    token = await one.drop(tags=["user"])
    with two.reading_after(token):
        assert await there() == "new"
    assert await here() == "new"
    await one.aclose(), await two.aclose()
