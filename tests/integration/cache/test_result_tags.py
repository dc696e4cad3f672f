"""Tags that a result tells, over real servers: stored, read and dropped by any process, and kept out by a drop."""

from __future__ import annotations

import asyncio

import pytest

from smw.cache import Cache, info

pytestmark = [pytest.mark.service("redis"), pytest.mark.service("memcached")]


class Shop:
    """A process whose results tell their owner; `during` is done in the middle of each load."""

    def __init__(self, cache: Cache, mode: str) -> None:
        self.cache, self.mode, self.runs, self.during = cache, mode, 0, lambda: None
        options = {"tags": [lambda result: f"owner:{result['owner']}"], "key": lambda number: number}

        def load(number: int) -> dict:
            self.runs += 1
            self.during()
            return {"number": number, "owner": "ada"}

        async def load_async(number: int) -> dict:
            return await asyncio.to_thread(load, number)

        self.item = cache.cached(60, **options)(load if mode == "sync" else load_async)

    async def ran(self, number: int) -> int:
        """Ask for an item, and return how many loads that has taken."""
        before = self.runs
        await (asyncio.to_thread(self.item, number) if self.mode == "sync" else self.item(number))
        return self.runs - before


@pytest.mark.parametrize("levels", [("l2",), ("l2", "l3")], ids=str)
async def test_others_take_it_until_its_tag_is_dropped(steady, mode, levels):
    """Also the first loads of a process are stored, and a drop anywhere reaches all; one during a load keeps it out."""
    one, two = Shop(steady(*levels), mode), Shop(steady(*levels), mode)
    assert [await one.ran(1), await two.ran(1), await two.ran(1)] == [1, 0, 0]
    await steady(*levels).drop(tags=["owner:ada"])
    assert await Shop(steady(*levels), mode).ran(1) == 1
    for shop in (one, two):
        for _ in range(200):
            if info(shop.item).entries == 0:
                break
            await asyncio.sleep(0.01)
        assert await shop.ran(1) == 0  # that of the third
    one.during = lambda: two.cache.drop_sync(tags=["owner:ada"])
    assert await one.ran(2) == 1
    one.during = lambda: None
    assert [await two.ran(2), await one.ran(2)] == [1, 0]


async def test_over_memcached_alone_memory_has_it_for_a_second(steady, mode):
    """Nobody tells there what was dropped meanwhile, so that nothing is stored."""
    one, two = Shop(steady("l3"), mode), Shop(steady("l3"), mode)
    assert [await one.ran(1), await one.ran(1), await two.ran(1)] == [1, 0, 1]
    await asyncio.sleep(1.1)
    assert await one.ran(1) == 1
