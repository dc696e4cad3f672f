"""The thread that counts what this process asks for and tells servers of it; decides nothing about values."""

from __future__ import annotations

import logging
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING

from smw._kernel.process import ForkLock, after_fork
from smw._kernel.threads import in_background
from smw.cache.levels.level import run_blocking
from smw.cache.warming.hot import Hearth

if TYPE_CHECKING:
    from smw._kernel.call import Mode
    from smw.cache.levels.engine import Engine
    from smw.cache.levels.level import Level
    from smw.cache.warming.heat import Heat

__all__ = ["Telling", "kept_by"]

_log = logging.getLogger("smw.cache")
SAMPLE_S = 1.0
TELL_S = 30.0
_AT_ONCE = 200
_END_S = 0.5
_SPARE = 2


def kept_by(engine: Engine, most: int) -> int:
    """Return how many keys each server remembers: more than are read, as some will be of functions not known there."""
    return -(-_SPARE * most // len(engine.remote.tiers[0].servers))


class Telling:
    """One daemon thread a process and cache; it starts with the first call that memory cannot answer.

    Args:
        engine: The levels.
        heat: What is counted.
        name: Of the list on the servers.
        most: How many keys are told.
    """

    def __init__(self, engine: Engine, heat: Heat, name: str, most: int) -> None:
        self._engine = engine
        self._heat = heat
        self._name = name
        self._most = most
        self._starting = ForkLock()
        self._forked()
        after_fork(self._forked)

    def _forked(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._due: float | None = None
        self._heat.forget()

    def start(self) -> None:
        """Start counting unless that goes on already; costs nothing then."""
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None or self._stop.is_set():
                return
            # Held weakly, so that a cache that nobody closes can go, and its thread with it.
            self._thread = in_background(partial(_count, weakref.ref(self), self._stop), "smw-cache-heat")

    def beat(self) -> None:
        """Count, and tell where it is time; blocks."""
        self._heat.sample()
        now = self._engine.host.clock.now()
        if self._due is None or now >= self._due:
            is_first, self._due = self._due is None, now + TELL_S * (0.5 + 0.5 * self._engine.host.entropy.random())
            if not is_first:
                run_blocking(self.tell("sync"))

    async def tell(self, mode: Mode) -> None:
        """Tell the servers what was asked for since the last time; what they do not take is forgotten."""
        engine, budget = self._engine, self._engine.budget()
        by_server: dict[Level, list[tuple[str, float]]] = {}
        for text, member, count in self._heat.taken():
            by_server.setdefault(engine.remote.tiers[0].of(text), []).append((member, float(count)))
        for level, counts in by_server.items():
            store = level.store
            for at in range(0, len(counts) if isinstance(store, Hearth) else 0, _AT_ONCE):
                some, most = counts[at : at + _AT_ONCE], kept_by(engine, self._most)
                await level.ask(store.tell_hot, self._name, some, most, budget=budget, mode=mode)  # type: ignore[attr-defined]

    def _end(self) -> bool:
        """End the thread; returns whether there was one."""
        self._stop.set()
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is None or thread is threading.current_thread():
            return False
        thread.join(_END_S)
        self._heat.sample()
        return True

    def close(self) -> None:
        """End counting, and tell what was counted: those who start now come after this process; idempotent."""
        if self._end():
            run_blocking(self.tell("sync"))

    async def aclose(self) -> None:
        """Close as `close` does, without blocking the event loop while servers are told; idempotent."""
        if self._end():
            await self.tell("async")


def _count(ref: weakref.ref[Telling], stop: threading.Event) -> None:
    """Count until told to stop, or until nobody holds what counts any more."""
    while not stop.wait(SAMPLE_S):
        telling = ref()
        if telling is None:
            return
        try:
            telling.beat()
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, it is tried again
            _log.debug("telling what is asked for most: %s", error)
        del telling
