"""What the checks of a store use: the store in one mode, under names of their own; holds no check but of shapes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from smw._kernel.clock import SystemEntropy
from smw.cache.levels.level import run_blocking

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from smw._kernel.call import Mode
    from smw.cache.ports import Found, Store

__all__ = ["TIMEOUT_S", "Kit"]

TIMEOUT_S = 2.0


class Kit:
    """A store, the mode to use it in, and keys that no other test uses.

    Args:
        store: The store.
        mode: ``sync`` or ``async``.
    """

    def __init__(self, store: Store, mode: Mode) -> None:
        self.store = store
        self.mode = mode
        self.how: dict[str, Any] = {"mode": mode, "timeout_s": TIMEOUT_S}
        self._prefix = f"t:{SystemEntropy().token_bytes(16).hex()}:"

    def name(self, text: str) -> str:
        """Return the full name of a key or counter."""
        return self._prefix + text

    async def read(self, key: str, *counters: str) -> Found:
        """Read a value and counters."""
        found = await self.store.read(self.name(key), [self.name(name) for name in counters], **self.how)
        if not (found.blob is None or type(found.blob) is bytes):
            raise AssertionError(f"what is read is bytes or None, and this is {type(found.blob).__name__}")
        _check_counters(found.counters, counters, missing=True)
        return found

    async def open(self, *counters: str) -> tuple[int, ...]:
        """Return counters, starting those that are missing."""
        shown = await self.store.open([self.name(name) for name in counters], 60.0, **self.how)
        _check_counters(shown, counters, missing=False)
        return shown

    async def opened(self, key: str, *counters: str) -> Found:
        """Read, and start the counters that do not exist, as before a load."""
        found = await self.read(key, *counters)
        return found._replace(counters=await self.open(*counters) if counters else ())

    async def write(self, key: str, blob: bytes, found: Found, *counters: str, ttl_s: float = 60.0) -> bool:
        """Write a value that was loaded after `found` was read."""
        names = [self.name(name) for name in counters]
        return await self.store.write(self.name(key), blob, ttl_s, counters=names, found=found, **self.how)

    async def drop(self, counters: Sequence[str] = (), keys: Sequence[str] = ()) -> Sequence[int] | None:
        """Drop counters and keys; return what the counters show now, where the store tells."""
        names = [self.name(name) for name in counters]
        shown = await self.store.drop(names, [self.name(key) for key in keys], **self.how)
        if shown is not None:
            _check_counters(shown, counters, missing=False)
        return shown

    async def at_once(self, *requests: Coroutine[Any, Any, Any]) -> list[Any]:
        """Return the answers to several requests that are under way together, in threads where they block."""
        if self.mode == "async":
            return list(await asyncio.gather(*requests))
        return list(await asyncio.gather(*(asyncio.to_thread(run_blocking, request) for request in requests)))


def _check_counters(shown: Any, asked: Sequence[str], *, missing: bool) -> None:
    """Fail where the cache would take an answer for nonsense."""
    numbers = [each for each in shown if not (missing and each is None)]
    if type(shown) is not tuple or len(shown) != len(asked) or any(type(each) is not int for each in numbers):
        raise AssertionError(f"counters are a tuple of one whole number each, and these are {shown!r}")
