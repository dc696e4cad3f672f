"""Whether another thread is blocked until this one has done its work, as far as their frames show; knows no flights."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.thread
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["is_awaited_by"]

_POOLS = concurrent.futures.thread.__file__
_WAITS = {threading.__file__, _POOLS, sys.modules[concurrent.futures.Future.__module__].__file__}

_ENDLESS = (None, -1)


def is_awaited_by(thread: int) -> bool:
    """Tell whether a thread is blocked without a time-out until this thread, or the pool's job in it, has ended.

    Seen are `Future.result`, `Executor.map`, `Thread.join` and the end of an executor's block. What is waited for in
    other ways (queues, events, the first of several futures) is not seen: False does not say that nobody waits.

    Args:
        thread: As `threading.get_ident` names it.
    """
    if thread == threading.get_ident():
        return True
    awaited = _awaited(sys._current_frames().get(thread))  # noqa: SLF001 - documented, in spite of its name
    return awaited is not None and any(awaited is own for own in _own())


def _awaited(frame: FrameType | None) -> object | None:
    """Return the future or the thread whose end the innermost frames wait for."""
    while frame is not None and frame.f_code.co_filename in _WAITS:
        names = frame.f_locals
        if names.get("timeout") not in _ENDLESS:
            return None
        one = names.get("self")
        if isinstance(one, concurrent.futures.Future | threading.Thread):
            return one
        frame = frame.f_back
    return None


def _own() -> Iterator[object]:
    """Yield this thread, and the future of each job of a pool that runs in it."""
    yield threading.current_thread()
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - documented, in spite of its name
    while frame is not None:
        if frame.f_code.co_filename == _POOLS:
            yield getattr(frame.f_locals.get("self"), "future", None)
        frame = frame.f_back
