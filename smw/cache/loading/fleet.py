"""One load of a key among all processes: who leads it, and how the others wait; knows no server's commands."""

from __future__ import annotations

import asyncio
import concurrent.futures
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from smw._kernel.facts import Fact
from smw._kernel.flight import led_names, name_led
from smw._kernel.landing import Landing
from smw._kernel.process import ForkLock, after_fork
from smw.cache.coherence.depending import scopes_of
from smw.cache.coherence.listener import AGAIN, ALONE, NEXT
from smw.cache.levels.remote import Ahead
from smw.cache.loading.leasing import Asked, Leasing
from smw.cache.loading.stepping import LOOK, MORE_S, WAIT, Wait, ask
from smw.cache.naming.names import fence_of
from smw.cache.ports import Found, Lease, LeaseAsk, Lessor, Versions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from smw._kernel.call import Mode
    from smw._kernel.guard import Budget
    from smw.cache.coherence.listener import Listener
    from smw.cache.levels.engine import Engine, Look, Place
    from smw.cache.levels.remote import Sight
    from smw.cache.ports import Leased
    from smw.cache.values.forms import Finding, Policy

__all__ = ["Fleet", "fleet_of"]

FILLED, RELEASED, FAILED, LATE = AGAIN, ALONE, NEXT, "late"
WAIT_S = 10.0
"""How long a caller waits for loads elsewhere before it loads itself."""
_CONNECT_S = 0.25
_SLACK_S = 0.05
_VAIN_S = 60.0
_QUICK_S = 0.001
_MOST_VAIN = _MOST_TIMED = 1000
_MOST_FAILED = 3
"""How many loads of others may fail, one after the other, before a caller waits for none any more."""
_OUTCOMES = {FILLED: "filled", RELEASED: "released", FAILED: "failed", LATE: "late"}


def fleet_of(engine: Engine, listener: Listener | None) -> Fleet | None:
    """Return what has one process load for all, or None where no server lets processes agree on one."""
    if listener is None or not all(isinstance(level.store, Lessor) for level in engine.remote.tiers[0].servers):
        return None
    return Fleet(engine, listener)


class Fleet:
    """The loads that one of several processes makes for all.

    Who finds no value takes a lease of the key, in the script that opens its counters, or learns that another has it.
    Then it waits, without asking, until the server tells it that the value is there or that there will be none. The
    lease is renewed while its holder lives, so one that has died costs the others about a second. Nothing depends on
    it: a load that two processes make is a load too many, and never an old value. Functions whose last loads took less
    than a millisecond, about what a lease costs, are loaded by each process.

    A value that still stands is loaded anew by whoever has the lease; the others hand out what they have.

    Args:
        engine: The levels.
        listener: Brings the news.
    """

    def __init__(self, engine: Engine, listener: Listener) -> None:
        self.leasing = Leasing(engine)
        self._engine = engine
        self._listener = listener
        self._now = engine.host.clock.now
        self._lock = ForkLock()
        self.waits: Counter[str] = Counter()
        self._forked()
        after_fork(self._forked)
        listener.carry(self.news, self.leasing.renew)

    def _forked(self) -> None:
        self._waiting: dict[str, set[Landing]] = {}
        self._vain: dict[str, float] = {}
        self._took: dict[int, float] = {}
        self._rallies: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[None]]
        self._rallies = weakref.WeakKeyDictionary()

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
        failed = 0
        while self.is_fit(place, look.sight):
            waits = Landing()
            with self._lock:
                self._waiting.setdefault(key, set()).add(waits)
            try:
                leased = await self._lease(place, policy, look.sight, look.budget, mode)
                if leased is None:
                    break
                if leased.leads:
                    epoch, budget = self._engine.fence.epoch, look.budget  # it begins now
                    return await self._lead(place, policy, load, mode, sight=look.sight, epoch=epoch, budget=budget)
                loads = () if leased.is_filled else led_names()
                if loads and await self.leasing.is_circular(key, loads, mode):
                    break  # loading it here tells at once whether it needs itself
                how, blob = FILLED, None
                if not leased.is_filled:
                    how, blob = await self._told(place, waits, leased.left_s, ends, mode)
                if policy.is_gathered and mode == "async":
                    await self._others()
            finally:
                self._done(key, waits)
            failed += how == FAILED
            if how in (RELEASED, LATE) or failed >= _MOST_FAILED or self._now() >= ends:
                break
            found = None if blob is None else Found(blob, leased.counters)
            look = await self._look(place, policy, look, found, mode)
            if look.found is not None:
                return look.found
        sight, epoch, budget = look.sight, look.epoch, look.budget
        return await self._engine.load(place, policy, load, mode, sight=sight, epoch=epoch, budget=budget)

    async def renew(
        self,
        place: Place,
        policy: Policy,
        load: Callable[[], Awaitable[Any]],
        mode: Mode,
        *,
        sight: Sight,
        epoch: int,
        budget: Budget,
    ) -> Finding | None:
        """Return what `load` returns, in the place of a value that still stands; None where another process loads it.

        Args:
            place: Where it belongs.
            policy: How it is kept.
            load: Calls the function.
            mode: The caller's mode.
            sight: What the servers have shown, apart from values.
            epoch: The fence's epoch before.
            budget: What may still be spent.

        Raises:
            BaseException: What `load` raises, and nothing else.
        """
        load, keep = self._timed(place, load), self._engine.load
        if self.is_fit(place, sight):
            leased = await self._lease(place, policy, sight, budget, mode, waits=False)
            if leased is not None and not leased.leads:
                return None
            keep = self._lead if leased is not None else keep
        return await keep(place, policy, load, mode, sight=sight, epoch=epoch, budget=budget)

    async def _look(self, place: Place, policy: Policy, look: Look, found: Found | None, mode: Mode) -> Look:
        """Look again, at what was enclosed if there is something.

        It may be an answer to somebody who waited before, and be older than what was asked: its counters tell.
        """
        if found is not None:
            ahead = Ahead(found, look.sight.asked, look.epoch, self._engine.budget(), is_sent=True)
            return await self._engine.look(place, policy, mode, ahead=ahead)
        if place.is_stepped:
            return cast("Look", await ask(LOOK, place))
        return await self._engine.look(place, policy, mode)

    def _timed(self, place: Place, load: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        """Return `load`, noting how long those of its function take."""

        async def timed() -> Any:
            began = self._now()
            try:
                return await load()
            finally:
                took_s, function = self._now() - began, id(place.home)
                if len(self._took) >= _MOST_TIMED and function not in self._took:
                    self._took = {}
                self._took[function] = max(took_s, self._took.get(function, 0.0) / 2)

        return timed

    def is_fit(self, place: Place, sight: Sight) -> bool:
        """Tell whether a lease makes sense: loads take longer than it does, the server answers, and keeps the value."""
        if sight.versions is None or self.leasing.level_of(place.text or "").name not in sight.seen:
            return False
        if self._took.get(id(place.home), _QUICK_S) < _QUICK_S:
            return False
        vain = self._vain.get(place.text or "")
        return vain is None or vain <= self._now()

    async def _lease(
        self, place: Place, policy: Policy, sight: Sight, budget: Budget, mode: Mode, *, waits: bool = True
    ) -> Leased | None:
        """Take the lease, or learn who has it; notes what the counters show."""
        key, asked = place.text or "", self._now()
        is_absent = waits and sight.seen[self.leasing.level_of(key).name].blob is None
        lease = LeaseAsk(key, (fence_of(key), *place.tags), is_absent, waits, led_names() if waits else ())
        question = Asked(lease, policy.ttl_s + policy.stale_s, budget)
        leased = await self.leasing.one(question, mode, is_stepped=place.is_stepped)
        if leased is not None:
            sight.versions, sight.asked = Versions(leased.counters[0], leased.counters[1:]), asked
        return leased

    async def _lead(
        self,
        place: Place,
        policy: Policy,
        load: Callable[[], Awaitable[Any]],
        mode: Mode,
        *,
        sight: Sight,
        epoch: int,
        budget: Budget,
    ) -> Finding:
        key, versions = place.text or "", sight.versions or Versions(None, ())
        lease = Lease(key, (versions.fence, *versions.generations))
        name_led(key)
        self.leasing.hold(lease)
        try:
            finding = await self._engine.load(place, policy, load, mode, sight=sight, epoch=epoch, budget=budget)
        except GeneratorExit:
            self.leasing.forget(lease)  # nothing can be awaited any more: the lease ends by itself
            raise
        except BaseException:
            await self.leasing.give_back(lease, NEXT, mode, is_stepped=place.is_stepped)
            raise
        stands = self._engine.fence.stands(scopes_of(place), epoch)
        how = ALONE if stands else AGAIN  # where it was dropped meanwhile, another load is of use to all
        if await self.leasing.give_back(lease, how, mode, is_stepped=place.is_stepped) and stands:
            self._note_vain(key)
        return finding

    def _note_vain(self, key: str) -> None:
        """Wait for this key no more for a while, as its value was not stored."""
        with self._lock:
            if len(self._vain) >= _MOST_VAIN:
                self._vain = {}
            self._vain[key] = self._now() + _VAIN_S

    async def _told(
        self,
        place: Place,
        waits: Landing,
        left_s: float,
        ends: float,
        mode: Mode,
    ) -> tuple[str, bytes | None]:
        """Wait for news of a lease; when it has run out without any, its holder has died."""
        connected, told = self._listener.is_connected, waits.future()
        seconds = min(left_s + _SLACK_S if connected else _CONNECT_S, ends - self._now())
        if place.is_stepped:
            await ask(WAIT, Wait(told, self._now() + seconds))
        elif mode == "sync":
            concurrent.futures.wait([told], seconds)
        else:
            await asyncio.wait([asyncio.wrap_future(told)], timeout=seconds)
        how, blob = told.result() if told.done() else (FILLED if self._listener.is_connected else RELEASED, None)
        if self._now() >= ends:
            how = LATE
        self.waits[_OUTCOMES[how]] += 1
        return how, blob

    async def _others(self) -> None:
        """Wait a moment for others that are told something, so that all of them go on in one tick."""
        loop = asyncio.get_running_loop()
        rally = self._rallies.get(loop)
        if rally is None or rally.done():
            rally = self._rallies[loop] = loop.create_future()
            loop.call_later(MORE_S, rally.set_result, None)
        await asyncio.shield(rally)

    def _done(self, key: str, waits: Landing) -> None:
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.discard(waits)
                if not waiting:
                    del self._waiting[key]

    def news(self, how: str, key: str | None, blob: bytes | None) -> None:
        """Wake those who wait: ``f`` to look again, ``r`` to load themselves, ``x`` to have one of them load.

        Args:
            how: One of the three.
            key: What they wait for; None for whatever it is.
            blob: The value as the server has it, if it was enclosed.
        """
        with self._lock:
            woken = [waits for each, some in self._waiting.items() if key in (None, each) for waits in some]
        for waits in woken:
            waits.tell((how, blob))

    def facts(self) -> Iterator[Fact]:
        """Yield how waits for other processes have ended."""
        about = "Waits for the load of another process, by their end."
        for outcome in _OUTCOMES.values():
            labels = (("outcome", outcome),)
            yield Fact("smw_cache_fleet_waits_total", "counter", about, labels, self.waits[outcome])
