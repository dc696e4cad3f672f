"""One object per event loop, closed when its loop ends; for clients that belong to the loop they were made in."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from smw._kernel.process import after_fork

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["PerLoop"]

T = TypeVar("T")
_standing: set[Any] = set()
"""Guardians whose loops have not ended; the loop itself holds them weakly."""


class _Slot(Generic[T]):
    __slots__ = ("guardian", "made")

    def __init__(self, made: T) -> None:
        self.made = made
        self.guardian: AsyncGenerator[None, None] | None = None


class PerLoop(Generic[T]):
    """Makes one object for each running event loop that asks.

    The object is closed by `aclose`, or when its loop shuts down its asynchronous generators, which ``asyncio.run``
    and every runner built on it do before they close the loop.

    Args:
        make: Returns a new object; called in the running loop.
        close: Closes one; called in its own loop. None: there is nothing to close.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[object]] | None = None) -> None:
        self._make = make
        self._close = close
        self._slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Slot[T]] = weakref.WeakKeyDictionary()
        self._last: tuple[Callable[[], object], _Slot[T] | None] = (lambda: None), None
        after_fork(self._forked)

    def _forked(self) -> None:
        self._slots = weakref.WeakKeyDictionary()  # the sockets still belong to the parent
        self._forget()

    def _forget(self) -> None:
        self._last = (lambda: None), None

    def get(self) -> T:
        """Return the running loop's object."""
        loop = asyncio.get_running_loop()
        last, slot = self._last  # nearly always there is one loop, and looking it up costs a microsecond
        if slot is None or last() is not loop:
            slot = self._slots.get(loop) or self._open(loop)
            self._last = weakref.ref(loop), slot
        return slot.made

    def _open(self, loop: asyncio.AbstractEventLoop) -> _Slot[T]:
        for ended in [other for other in self._slots if other.is_closed()]:
            _standing.discard(self._slots.pop(ended).guardian)
        slot = self._slots[loop] = _Slot(self._make())
        slot.guardian = self._until_loop_ends(loop, slot)
        _standing.add(slot.guardian)
        # The first step registers the generator with its loop; it reaches the yield at once.
        with contextlib.suppress(StopIteration):
            slot.guardian.__anext__().__await__().send(None)
        return slot

    async def _until_loop_ends(self, loop: asyncio.AbstractEventLoop, slot: _Slot[T]) -> AsyncGenerator[None, None]:
        """Stand still among the loop's generators, which it closes before it ends."""
        try:
            yield
        finally:
            if self._slots.get(loop) is slot:
                del self._slots[loop]
            self._forget()
            _standing.discard(slot.guardian)
            if self._close is not None:
                await self._close(slot.made)

    def replace(self, old: T) -> None:
        """Put a new object in the place of `old`, which the caller closes."""
        slot = self._slots.get(asyncio.get_running_loop())
        if slot is not None and slot.made is old:
            slot.made = self._make()

    def close(self) -> None:
        """Have the objects of all loops closed, each in its own loop, without waiting; idempotent."""
        for loop, slot in list(self._slots.items()):
            if slot.guardian is None:
                continue
            with contextlib.suppress(RuntimeError):  # the loop has just ended, and closed it
                loop.call_soon_threadsafe(_end, loop, slot.guardian)

    async def aclose(self) -> None:
        """Close the running loop's object; those of other loops close with their loops."""
        slot = self._slots.pop(asyncio.get_running_loop(), None)
        self._forget()
        if slot is not None and slot.guardian is not None:
            await slot.guardian.aclose()


def _end(loop: asyncio.AbstractEventLoop, guardian: AsyncGenerator[None, None]) -> None:
    task = loop.create_task(guardian.aclose())
    _standing.add(task)
    task.add_done_callback(_standing.discard)
