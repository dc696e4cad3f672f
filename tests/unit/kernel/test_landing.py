"""What others may wait for: told once, and a future only where somebody waits."""

from __future__ import annotations

import asyncio
import threading

import pytest

from smw._kernel.landing import Landing


@pytest.mark.parametrize("order", ["before", "after"])
def test_whoever_waits_hears_it(order):
    """Whether he comes before it is told or after; what is told first stays."""
    landing = Landing()
    futures = [landing.future()] if order == "before" else []
    assert not landing.done()
    landing.tell(7)
    landing.tell(error=KeyError("late"))
    futures.append(landing.future())
    assert landing.done()
    assert {future.result(timeout=10) for future in futures} == {7}


def test_an_error_is_raised_to_whoever_waits():
    """Each time that somebody asks."""
    landing = Landing()
    landing.tell(error=KeyError("gone"))
    for _ in range(2):
        with pytest.raises(KeyError, match="gone"):
            landing.future().result(timeout=10)


async def test_who_is_cancelled_takes_nobody_along():
    """Another coroutine and a thread that wait for the same thing hear how it ends."""
    landing, heard = Landing(), []
    thread = threading.Thread(target=lambda: heard.append(landing.future().result(timeout=10)))
    thread.start()
    left, stays = (asyncio.ensure_future(asyncio.wrap_future(landing.future())) for _ in range(2))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.sleep(0)
    landing.tell("there")
    assert await stays == "there"
    thread.join()
    assert heard == ["there"]
