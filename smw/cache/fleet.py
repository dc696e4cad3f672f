"""One load of a key among all processes: who leads it, and how the others wait; knows no server's commands."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import Counter
from typing import TYPE_CHECKING, Any

from smw._kernel.facts import Fact
from smw._kernel.process import ForkLock, after_fork
from smw.cache.listener import ALONE, LOOK
from smw.cache.names import fence_of
from smw.cache.ports import Lessor, Versions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from smw._kernel.call import Mode
    from smw.cache.engine import Engine, Look, Place
    from smw.cache.forms import Finding, Policy
    from smw.cache.level import Level
    from smw.cache.listener import Listener
    from smw.cache.ports import Leased
    from smw.cache.remote import Sight

__all__ = ["Fleet", "fleet_of"]

FILLED, RELEASED, LATE = LOOK, ALONE, "late"
WAIT_S = 10.0
"""How long a caller waits for loads elsewhere before it loads itself."""
_CONNECT_S = 0.25
_SLACK_S = 0.05
_VAIN_S = 60.0
_QUICK_S = 0.001
_MOST_VAIN = 1000
_OUTCOMES = {FILLED: "filled", RELEASED: "released", LATE: "late"}


def fleet_of(engine: Engine, listener: Listener | None) -> Fleet | None:
    """Return what has one process load for all, or None where no server lets processes agree on one."""
    if listener is None:
        return None
    lessor = listener.level.store
    return Fleet(engine, listener.level, lessor, listener) if isinstance(lessor, Lessor) else None


class Fleet:
    """The loads that one of several processes makes for all.

    Who finds no value takes a lease of the key, in the script that opens its counters, or learns that another has it.
    Then it waits, without asking, until the server tells it that the value is there or that there will be none. The
    lease is renewed while its holder lives, so one that has died costs the others a second. Nothing depends on it: a
    load that two processes make is a load too many, and never an old value. Functions whose last loads took less than a
    millisecond, about what a lease costs, are loaded by each process.

    Args:
        engine: The levels.
        level: The server, with what keeps its failures from callers.
        lessor: The server.
        listener: Brings the news.
    """

    def __init__(self, engine: Engine, level: Level, lessor: Lessor, listener: Listener) -> None:
        self._engine = engine
        self._level = level
        self._lessor = lessor
        self._listener = listener
        self._now = engine.host.clock.now
        self._lock = ForkLock()
        self.waits: Counter[str] = Counter()
        self._forked()
        after_fork(self._forked)
        listener.carry(self.news, lessor.renew)

    def _forked(self) -> None:
        self._waiting: dict[str, set[concurrent.futures.Future[str]]] = {}
        self._vain: dict[str, float] = {}
        self._took: dict[int, float] = {}

    async def load(
        self, place: Place, policy: Policy, load: Callable[[], Awaitable[Any]], mode: Mode, *, look: Look
    ) -> Finding:
        """Return what `load` returns, or what another process has stored meanwhile.

        Args:
            place: Where it belongs.
            policy: How it is kept.
            load: Calls the function.
            mode: The caller's mode.
            look: What a look has shown, without a value.

        Raises:
            BaseException: What `load` raises, and nothing else.
        """
        key, ends, load = place.text or "", self._now() + WAIT_S, self._timed(place, load)
        while self._is_fit(place, look.sight):
            waits: concurrent.futures.Future[str] = concurrent.futures.Future()
            with self._lock:
                self._waiting.setdefault(key, set()).add(waits)
            try:
                leased = await self._lease(place, policy, look, mode)
                if leased is None:
                    break
                if leased.leads:
                    return await self._lead(place, policy, load, mode, look=look)
                how = FILLED if leased.is_filled else await self._told(waits, leased.left_s, ends, mode)
            finally:
                self._done(key, waits)
            if how != FILLED or self._now() >= ends:
                break
            look = await self._engine.look(place, policy, mode)
            if look.found is not None:
                return look.found
        sight, epoch, budget = look.sight, look.epoch, look.budget
        return await self._engine.load(place, policy, load, mode, sight=sight, epoch=epoch, budget=budget)

    def _timed(self, place: Place, load: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        """Return `load`, noting how long those of its function take."""

        async def timed() -> Any:
            began = self._now()
            try:
                return await load()
            finally:
                took_s, function = self._now() - began, id(place.home)
                self._took[function] = max(took_s, self._took.get(function, 0.0) / 2)

        return timed

    def _is_fit(self, place: Place, sight: Sight) -> bool:
        """Tell whether a lease makes sense: loads take longer than it does, the server answers, and keeps the value."""
        if sight.versions is None or self._level.name not in sight.seen:
            return False
        if self._took.get(id(place.home), _QUICK_S) < _QUICK_S:
            return False
        vain = self._vain.get(place.text or "")
        return vain is None or vain <= self._now()

    async def _lease(self, place: Place, policy: Policy, look: Look, mode: Mode) -> Leased | None:
        """Take the lease, or learn who has it; notes what the counters show."""
        key, sight, asked = place.text or "", look.sight, self._now()
        more: dict[str, Any] = {"is_absent": sight.seen[self._level.name].blob is None}
        counters, ttl_s = (fence_of(key), *place.tags), policy.ttl_s + policy.stale_s
        ask = self._level.ask
        leased: Leased | None = await ask(
            self._lessor.lease, key, counters, ttl_s, budget=look.budget, mode=mode, **more
        )
        if leased is not None:
            sight.versions, sight.asked = Versions(leased.counters[0], leased.counters[1:]), asked
        return leased

    async def _lead(
        self, place: Place, policy: Policy, load: Callable[[], Awaitable[Any]], mode: Mode, *, look: Look
    ) -> Finding:
        key, sight, epoch, budget = place.text or "", look.sight, look.epoch, look.budget
        try:
            finding = await self._engine.load(place, policy, load, mode, sight=sight, epoch=epoch, budget=budget)
        except GeneratorExit:
            self._lessor.forget(key)  # nothing can be awaited any more: the lease ends by itself
            raise
        except BaseException:
            await self._release(key, mode)
            raise
        if await self._release(key, mode):
            self._note_vain(key)
        return finding

    async def _release(self, key: str, mode: Mode) -> bool:
        """Give the lease back unless storing the value has; returns whether it had not."""
        if not self._lessor.forget(key):
            return False
        await self._level.ask(self._lessor.release, key, budget=self._engine.budget(), mode=mode)
        return True

    def _note_vain(self, key: str) -> None:
        """Wait for this key no more for a while, as its value was not stored."""
        with self._lock:
            if len(self._vain) >= _MOST_VAIN:
                self._vain = {}
            self._vain[key] = self._now() + _VAIN_S

    async def _told(self, waits: concurrent.futures.Future[str], left_s: float, ends: float, mode: Mode) -> str:
        """Wait for news of a lease; when it has run out without any, its holder has died."""
        connected = self._listener.is_connected
        seconds = min(left_s + _SLACK_S if connected else _CONNECT_S, ends - self._now())
        if mode == "sync":
            concurrent.futures.wait([waits], seconds)
        else:
            await asyncio.wait([asyncio.wrap_future(waits)], timeout=seconds)
        how = waits.result() if waits.done() else FILLED if self._listener.is_connected else RELEASED
        if self._now() >= ends:
            how = LATE
        self.waits[_OUTCOMES[how]] += 1
        return how

    def _done(self, key: str, waits: concurrent.futures.Future[str]) -> None:
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.discard(waits)
                if not waiting:
                    del self._waiting[key]

    def news(self, how: str, key: str | None = None) -> None:
        """Wake those who wait: ``f`` to look again, ``r`` to load themselves.

        Args:
            how: One of the two.
            key: What they wait for; None for whatever it is.
        """
        with self._lock:
            woken = [waits for each, some in self._waiting.items() if key in (None, each) for waits in some]
            for waits in woken:
                if not waits.done():
                    waits.set_result(how)

    def facts(self) -> Iterator[Fact]:
        """Yield how waits for other processes have ended."""
        about = "Waits for the load of another process, by their end."
        for outcome in _OUTCOMES.values():
            labels = (("outcome", outcome),)
            yield Fact("smw_cache_fleet_waits_total", "counter", about, labels, self.waits[outcome])
