"""The deliveries that run now, and how they are told to stop from any thread; knows no records."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from smw.pipeline.delivery import Delivery

__all__ = ["Serving"]


class _Running(NamedTuple):
    name: str
    loop: asyncio.AbstractEventLoop
    delivery: Delivery
    left: threading.Event


class Serving:
    """Every delivery of one pipeline that runs."""

    def __init__(self) -> None:
        self._running: list[_Running] = []
        self._lock = threading.Lock()

    async def run(self, name: str, delivery: Delivery, stop: asyncio.Event | None) -> None:
        """Run a delivery until it ends, is told to stop, or `stop` is set."""
        running = _Running(name, asyncio.get_running_loop(), delivery, threading.Event())
        with self._lock:
            self._running.append(running)
        watcher = None if stop is None else running.loop.create_task(_watch(stop, delivery))
        try:
            await delivery.run()
        finally:
            if watcher is not None:
                watcher.cancel()
            with self._lock:
                self._running.remove(running)
            running.left.set()

    def names(self) -> list[str]:
        """Return the streams that are served now."""
        with self._lock:
            return sorted({running.name for running in self._running})

    def stop(self, name: str | None = None) -> list[threading.Event]:
        """Tell the deliveries of a stream, or all, to stop; returns what is set when each has ended."""
        with self._lock:
            chosen = [running for running in self._running if name in (None, running.name)]
        for running in chosen:
            with contextlib.suppress(RuntimeError):  # its loop has closed
                running.loop.call_soon_threadsafe(running.delivery.stop)
        return [running.left for running in chosen]


async def _watch(stop: asyncio.Event, delivery: Delivery) -> None:
    await stop.wait()
    delivery.stop()
