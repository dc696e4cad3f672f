"""What comes in one tick of an event loop is dealt with at once."""

from __future__ import annotations

import asyncio
import gc

from smw._kernel.ticks import Ticks


class Dealer:
    """Notes what it was given, and waits until it may go on."""

    def __init__(self, most: int | None = None) -> None:
        self.begun: list[list[str]] = []
        self.ended: asyncio.Queue[list[str]] = asyncio.Queue()
        self.may, self.begins = asyncio.Event(), asyncio.Event()
        self.may.set()
        full = None if most is None else (lambda batch: len(batch) >= most)
        self.ticks: Ticks[list[str]] = Ticks(list, self.deal, full)

    async def deal(self, batch: list[str]) -> None:
        self.begun.append(batch)
        self.begins.set()
        await self.may.wait()
        self.ended.put_nowait(batch)

    async def bring(self, *what: str) -> None:
        for each in what:
            self.ticks.batch().append(each)

    async def done(self, count: int) -> list[list[str]]:
        return [await self.ended.get() for _ in range(count)]


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
    await dealer.begins.wait()
    gc.collect()
    dealer.begins.clear()
    await dealer.bring("b")
    await dealer.begins.wait()
    assert dealer.begun == [["a"], ["b"]]
    dealer.may.set()
    assert await dealer.done(2) == [["a"], ["b"]]
