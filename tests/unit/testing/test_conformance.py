"""The public suite for stores refuses stores that are wrong, not only those that fail."""

from __future__ import annotations

import asyncio

import pytest

from smw._kernel.clock import SystemClock
from smw.cache.stores.local import LocalStore
from smw.testing.conformance import Kit, StoreConformance


class Unlocked(LocalStore):
    """Compares, and stores a moment later."""

    async def write(self, key, blob, ttl_s, *, counters, found, mode, timeout_s):
        held = self._contents
        if found.counters != tuple([held.counters.get(name) for name in counters]):
            return False
        await asyncio.sleep(0)
        held.values[key] = blob, self._clock.now() + ttl_s
        return True


class Careless(LocalStore):
    """Stores where a counter is missing."""

    async def write(self, key, blob, ttl_s, *, counters, found, mode, timeout_s):
        missing = None in found.counters
        names, seen = ((), found._replace(counters=())) if missing else (counters, found)
        return await super().write(key, blob, ttl_s, counters=names, found=seen, mode=mode, timeout_s=timeout_s)


class Foreign(LocalStore):
    """Hands out what its client makes of bytes."""

    async def read(self, key, counters, *, mode, timeout_s):
        found = await super().read(key, counters, mode=mode, timeout_s=timeout_s)
        return found._replace(blob=found.blob and bytearray(found.blob))


class Floats(LocalStore):
    """Hands out what its client makes of numbers."""

    async def open(self, counters, ttl_s, *, mode, timeout_s):
        return tuple(map(float, await super().open(counters, ttl_s, mode=mode, timeout_s=timeout_s)))


class Guessing(LocalStore):
    """Tells of a drop what its counters do not show."""

    async def drop(self, counters, keys, *, mode, timeout_s):
        shown = await super().drop(counters, keys, mode=mode, timeout_s=timeout_s)
        return tuple(number + 1 for number in shown)


@pytest.mark.parametrize(
    ("store", "check"),
    [
        (Unlocked, "value_written_while_its_key_is_dropped_is_not_left"),
        (Careless, "value_loaded_without_counters_is_refused"),
        (Foreign, "closing_twice_is_fine"),
        (Floats, "opened_counter_stays"),
        (Guessing, "a_drop_that_tells_numbers_tells_those_that_are_shown"),
    ],
)
def test_a_wrong_store_is_refused(store, check):
    """What would make the cache hand out old values, or take a level for broken, fails a check."""
    run = getattr(StoreConformance, f"test_{check}")
    run(StoreConformance(), Kit(LocalStore(clock=SystemClock()), "async"))
    with pytest.raises(AssertionError):
        run(StoreConformance(), Kit(store(clock=SystemClock()), "async"))
