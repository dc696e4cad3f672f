"""What comes in one tick of an event loop is dealt with at once."""

from __future__ import annotations

import asyncio
import gc

from smw._kernel.ticks import Ticks


class Dealer:
    """Notes what it was given, and waits until it may go on."""

    def __init__(self, most: int | None = None) -> None:
        self.begun: list[list[str]] = []
        self.ended: list[list[str]] = []
        self.may = asyncio.Event()
        self.may.set()
        full = None if most is None else (lambda batch: len(batch) >= most)
        self.ticks: Ticks[list[str]] = Ticks(list, self.deal, full)

    async def deal(self, batch: list[str]) -> None:
        self.begun.append(batch)
        await self.may.wait()
        self.ended.append(batch)

    async def bring(self, *what: str) -> None:
        for each in what:
            self.ticks.batch().append(each)

    async def done(self, count: int) -> list[list[str]]:
        while len(self.ended) < count:
            await asyncio.sleep(0)
        return self.ended


async def test_what_comes_in_a_tick_is_one_batch():
    """Nothing is dealt with before the tick ends; what comes in the next one is dealt with apart."""
    dealer = Dealer()
    await asyncio.gather(dealer.bring("a"), dealer.bring("b", "c"))
    await dealer.bring("d")
    assert await dealer.done(2) == [["a", "b", "c"], ["d"]]


async def test_a_full_batch_takes_no_more():
    """What comes next in the same tick begins another, and none is lost."""
    dealer = Dealer(most=2)
    await dealer.bring("a", "b", "c", "d", "e")
    assert dealer.begun == []
    assert await dealer.done(3) == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_batch_that_takes_long_keeps_none_waiting():
    """Others are dealt with meanwhile, and what deals with it lives although nobody else holds it."""
    dealer = Dealer()
    dealer.may.clear()
    await dealer.bring("a")
    while not dealer.begun:
        await asyncio.sleep(0)
    gc.collect()
    await dealer.bring("b")
    while len(dealer.begun) < 2:
        await asyncio.sleep(0)
    dealer.may.set()
    assert await dealer.done(2) == [["a"], ["b"]]
