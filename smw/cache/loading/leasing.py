"""Asks for the leases of keys, several at a time where several are wanted at once; decides nothing about loads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from smw._kernel.loops import PerLoop
from smw._kernel.process import after_fork
from smw._kernel.ticks import Ticks
from smw.cache.coherence.listener import NEXT
from smw.cache.loading.stepping import LEASE, RELEASE, ask
from smw.cache.ports import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.guard import Budget
    from smw.cache.levels.engine import Engine
    from smw.cache.levels.level import Level
    from smw.cache.ports import LeaseAsk, Leased, Lessor

    _Waiting = tuple["Asked", asyncio.Future[Leased | None]]
    _Left = tuple[Lease, str, asyncio.Future[None]]

__all__ = ["Asked", "Leasing"]

_MOST_NAMES = 256
"""Names in one question, as for a read of many."""
_MOST_HOPS = 8
_RENEWED_AFTER_S = 0.5


class Asked(NamedTuple):
    """A lease that somebody asks for.

    Attributes:
        lease: Which.
        ttl_s: How long its counters must live at least.
        budget: What the caller may still spend.
    """

    lease: LeaseAsk
    ttl_s: float
    budget: Budget


class Leasing:
    """The leases of one cache.

    Coroutines of one event loop that ask within one tick of it are answered with one request, and so are the loads
    that a blocking caller makes at once.

    Args:
        engine: The levels.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._now = engine.host.clock.now
        self._waiting: PerLoop[Ticks[list[_Waiting]]] = PerLoop(lambda: Ticks(list, self._ask))
        self._left: PerLoop[Ticks[list[_Left]]] = PerLoop(lambda: Ticks(list, self._give_back))
        self._forked()
        after_fork(self._forked)

    def _forked(self) -> None:
        self._since: dict[Lease, float] = {}

    def level_of(self, key: str) -> Level:
        """Return the server that has the lease of a key."""
        return self._engine.remote.tiers[0].of(key)

    def lessor_of(self, key: str) -> Lessor:
        """Return the store of the moment there: tests put another in its place."""
        return cast("Lessor", self.level_of(key).store)

    def hold(self, lease: Lease) -> None:
        """Have a lease renewed from now on; one that nobody makes use of ends by itself."""
        self._since[lease] = self._now()

    def forget(self, lease: Lease) -> bool:
        """Renew a lease no more; returns whether this process still had it, as nothing was stored."""
        self._since.pop(lease, None)
        return self.lessor_of(lease.key).forget(lease)

    async def one(self, asked: Asked, mode: Mode, *, is_stepped: bool) -> Leased | None:
        """Return what comes of asking for one lease; None where the server does not answer."""
        if mode == "async":
            return await self._gathered(asked)
        if is_stepped:
            return cast("Leased | None", await ask(LEASE, asked))
        return (await self.now([asked], mode))[0]

    async def now(self, asked: Sequence[Asked], mode: Mode) -> list[Leased | None]:
        """Return what comes of asking for several leases, with as few requests as there can be."""
        found: dict[int, Leased | None] = {}
        for level, numbers in self._in_questions(asked):
            some = [asked[number] for number in numbers]
            ttl_s, budget = max(each.ttl_s for each in some), max((each.budget for each in some), key=_left_s)
            lease = cast("Lessor", level.store).lease
            leased = await level.ask(lease, [each.lease for each in some], ttl_s, budget=budget, mode=mode)
            found.update(zip(numbers, leased or [None] * len(some), strict=True))
        return [found[number] for number in range(len(asked))]

    def _in_questions(self, asked: Sequence[Asked]) -> Iterator[tuple[Level, list[int]]]:
        """Yield each server with the numbers of those that one question to it is about."""
        questions: dict[Level, list[dict[str, int]]] = {}
        sizes: dict[Level, int] = {}
        for number, each in enumerate(asked):
            key, size = each.lease.key, 2 + len(each.lease.counters)
            level = self.level_of(key)
            mine = questions.setdefault(level, [{}])
            if mine[-1] and (sizes[level] + size > _MOST_NAMES or key in mine[-1]):
                mine.append({})
                sizes[level] = 0
            mine[-1][key] = number
            sizes[level] = sizes.get(level, 0) + size
        for level, some in questions.items():
            for numbers in some:
                yield level, list(numbers.values())

    async def _gathered(self, asked: Asked) -> Leased | None:
        future: asyncio.Future[Leased | None] = asyncio.get_running_loop().create_future()
        self._waiting.get().batch().append((asked, future))
        try:
            return await future
        except BaseException as error:
            leased = future.result() if future.done() and not future.cancelled() and not future.exception() else None
            left = leased is not None and leased.leads and Lease(asked.lease.key, leased.counters)
            if left and self.forget(left) and not isinstance(error, GeneratorExit):  # after which nothing is awaited
                await self._given_back(left, NEXT)
            raise

    async def _ask(self, waiting: Sequence[_Waiting]) -> None:
        """Ask for all who wait, and give back what nobody wants any more."""
        waiting = [pair for pair in waiting if not pair[1].done()]
        try:
            leased = await self.now([asked for asked, _ in waiting], "async")
        except BaseException as error:
            for _, future in waiting:
                if isinstance(error, Exception) and not future.done():
                    future.set_exception(error)
                future.cancel()
            raise
        left = []
        for (asked, future), each in zip(waiting, leased, strict=True):
            if not future.done():
                future.set_result(each)
            elif each is not None and each.leads and self.forget(lease := Lease(asked.lease.key, each.counters)):
                left.append((lease, NEXT))
        await self.release(left, "async")

    async def is_circular(self, key: str, loads: Sequence[str], mode: Mode) -> bool:
        """Tell whether who loads `key` waits, through any chain of others, for one of `loads`.

        Whoever waits has said so before he asks this, so that the last one to join a circle sees all of it.
        """
        seen, asked = set(loads), list(loads)
        for _ in range(_MOST_HOPS):
            waiting: set[str] = set()
            for level in dict.fromkeys(map(self.level_of, asked)):
                mine = [each for each in asked if self.level_of(each) is level]
                waiters = cast("Lessor", level.store).waiters
                waiting.update(await level.ask(waiters, mine, budget=self._engine.budget(), mode=mode) or ())
            if key in waiting:
                return True
            asked = list(waiting - seen)[:_MOST_NAMES]
            if not asked:
                return False
            seen.update(asked)
        return False

    async def give_back(self, lease: Lease, how: str, mode: Mode, *, is_stepped: bool) -> bool:
        """Give a lease back unless storing the value has; returns whether it had not."""
        if not self.forget(lease):
            return False
        if mode == "async":
            await self._given_back(lease, how)
        elif is_stepped:
            await ask(RELEASE, (lease, how))
        else:
            await self.release([(lease, how)], mode)
        return True

    async def _given_back(self, lease: Lease, how: str) -> None:
        """Wait until a lease has been given back, even when cancelled: a loop that ends would run that no further."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left.get().batch().append((lease, how, future))
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _give_back(self, left: Sequence[_Left]) -> None:
        try:
            await self.release([(lease, how) for lease, how, _ in left], "async")
        finally:
            for *_, future in left:
                if not future.done():
                    future.set_result(None)

    async def release(self, left: Sequence[tuple[Lease, str]], mode: Mode) -> None:
        """Have those who wait for some leases told how that has come."""
        by_server: dict[tuple[Level, str], list[Lease]] = {}
        for lease, how in left:
            by_server.setdefault((self.level_of(lease.key), how), []).append(lease)
        for (level, how), leases in by_server.items():
            for start in range(0, len(leases), _MOST_NAMES):
                some, release = leases[start : start + _MOST_NAMES], cast("Lessor", level.store).release
                await level.ask(release, some, how, budget=self._engine.budget(), mode=mode)

    async def renew(self, *, mode: Mode, budget: Budget) -> None:
        """Prolong the leases that this process has, each after a while: most loads end before that."""
        now, due = self._now(), dict[Any, list[Lease]]()
        for lease, since in list(self._since.items()):
            if now - since >= _RENEWED_AFTER_S:
                due.setdefault(self.level_of(lease.key), []).append(lease)
        for level, leases in due.items():
            if await level.ask(cast("Lessor", level.store).renew, leases, budget=budget, mode=mode):
                self._since.update({lease: now for lease in leases if lease in self._since})


def _left_s(budget: Budget) -> float:
    return budget.left_s()
