"""One server as the engine sees it: asks within a budget, counts failures, pays its debt; knows no value."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from smw._kernel.guard import EXCUSED, Allowance, Breaker
from smw._kernel.process import ForkLock, after_fork
from smw._kernel.threads import in_background
from smw.cache.coherence.debt import Debt, Owed
from smw.cache.coherence.receipts import Receipts
from smw.cache.coherence.servertime import ServerTime
from smw.cache.levels.joint import Joint
from smw.cache.ports import Store, StoreFailedError, Timekeeper
from smw.cache.sight.spread import timings
from smw.cache.stores.turns import waited_s

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from smw._kernel.call import Mode
    from smw._kernel.guard import Budget
    from smw._kernel.host import Host

__all__ = ["Level", "run_blocking"]

_log = logging.getLogger("smw.cache")
_LEAST_S = 0.001
_LAG_S = 0.05
_WELL_S = 0.5
_PAY_S = 2.0
_PAY_FIRST_S, _PAY_MOST_S = 0.1, 0.5
_SAY_EVERY_S = 60.0
_NO_SPAN = nullcontext()


def run_blocking(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine whose every step is in mode ``sync``, and so never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    message = "a step in mode sync suspended"
    raise RuntimeError(message)


class Level:
    """A store with what keeps its failures from callers.

    Attributes:
        greet: Called when the server is back, before callers are let through; raises as the store does.

    Args:
        name: The tier, ``l2`` or ``l3``.
        store: The server.
        host: Clock, jitter and bus.
        timeout_s: The most that one question may take, within the caller's budget.
        everything: The tag that every value carries.

    Attributes:
        together: Returns the levels that fail with this one, itself included.
        first: Called once in a thread of its own when the server has answered for the first time.
        receipts: What it has acknowledged to drop.
        time: What its clock shows.
    """

    def __init__(self, name: str, store: Store, host: Host, *, timeout_s: float, everything: str) -> None:
        self.name = name
        self.store = store
        self.errors: Counter[str] = Counter()
        self.timings = timings()
        self.debt = Debt(everything)
        self.receipts = Receipts(host.clock)
        self.time = ServerTime(host.clock, is_told=isinstance(store, Timekeeper))
        self._everything = everything
        self.breaker = Breaker(store.name, host, self._probe_in_time, on_up=self._back)
        self.breaker.place = getattr(store, "shown_at", "")
        self._spans = host.spans
        self._system = store.name.partition(" ")[0]
        self.greet: Callable[[], object] | None = None
        self.together: Callable[[], Iterable[Level]] = lambda: (self,)
        self.first: Callable[[], object] | None = None
        self._clock, self._now = host.clock, host.clock.now
        self._telling = Joint(host.clock)
        self._timeout_s = timeout_s
        self._lock = ForkLock()
        self._payer: threading.Thread | None = None
        self._is_due = False
        self._stop = threading.Event()
        self._said: dict[str, float] = {}
        self._is_asking, self._well_at = False, float("-inf")
        after_fork(self._forked)

    def _forked(self) -> None:
        self._stop = threading.Event()
        self._payer = None
        self._is_due = bool(self.debt)  # the drop that was under way returns in the parent alone
        self._is_asking = False

    def _probe(self) -> None:
        self.store.probe()  # that of the moment: tests put another in its place

    def _probe_in_time(self) -> None:
        """Probe, and take an answer that comes later than callers wait for none: they would pay for it at once."""
        began = self._now()
        self._probe()
        if self._now() - began > self._timeout_s:
            raise StoreFailedError("slow")

    async def ask(self, ask: Callable[..., Awaitable[Any]], *args: Any, budget: Budget, mode: Mode, **more: Any) -> Any:
        """Return what the store answers, or None when it is down, fails, or there is no time left to ask it."""
        if self.breaker.is_open and not self.breaker.allows():
            return None
        began, most_s = self._now(), self._timeout_s
        left_s = min(budget.begin(began), most_s)
        if left_s < _LEAST_S:
            budget.end(began)
            self.errors["budget"] += 1
            return None
        op = ask.__name__.lstrip("_")
        if EXCUSED.get():
            EXCUSED.set(0.0)
        try:
            if self._spans.wanted:
                answer = await self._spanned(op, ask, *args, mode=mode, timeout_s=left_s, **more)
            else:
                answer = await ask(*args, mode=mode, timeout_s=left_s, **more)
        except Exception as error:  # noqa: BLE001 - whatever a client chokes on
            # A blocking client knows no budget.
            self._unanswered(error, took_s=self._timed(op, began, budget), had_s=most_s if mode == "sync" else left_s)
            return None
        except BaseException:
            self._timed(op, began, budget)
            raise
        took_s = self._timed(op, began, budget)
        if self.first is not None:
            first, self.first = self.first, None
            if in_background(first, "smw-cache-first") is None:
                self.first = first
        if took_s <= most_s:
            self.breaker.ok()
        elif mode == "sync" and took_s - waited_s() > most_s:
            self._failed(StoreFailedError("slow"), took_s)
        else:
            # It has waited for a connection that others used, or the loop was busy elsewhere: it would have been cut
            # off otherwise.
            self.errors["lag"] += 1
        return answer

    def _timed(self, op: str, began: float, budget: Budget) -> float:
        """Note what a request has taken, less what the event loop took, and return it."""
        now = max(began, self._now() - EXCUSED.get())
        budget.end(now)
        took_s = now - began
        self.timings.add(op, took_s)
        return took_s

    async def _spanned(self, op: str, ask: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> Any:
        known = {"db.system.name": self._system, "db.operation.name": op, "smw.cache.level": self.name}
        with self._spans.around(f"cache {op} {self.name}", "client", known) or _NO_SPAN:
            return await ask(*args, **more)

    def _unanswered(self, error: Exception, *, took_s: float, had_s: float) -> None:
        """Note a question that has failed, after `took_s` of the `had_s` that it was given."""
        if not isinstance(error, StoreFailedError):
            self._failed(StoreFailedError("protocol"), took_s)  # a client choked on what the server sent
            return
        # Cut off late, or given less than half of what the server may take.
        unfair = took_s - had_s > _LAG_S or 2 * had_s < self._timeout_s
        if error.kind == "lag" or (error.kind == "timeout" and unfair):
            self._lagged()
        else:
            self._failed(error, took_s)

    def _lagged(self) -> None:
        """Note a question that has failed without the fault of the server, as far as one can tell from a busy loop."""
        self.errors["lag"] += 1
        self._doubted()

    def _doubted(self) -> None:
        """Ask the server for a sign of life in a thread of its own, which no event loop keeps from taking it in.

        That an answer comes is believed for a moment; that none does speaks against the server each time.
        """
        with self._lock:
            if self._is_asking or self._stop.is_set() or self._now() - self._well_at < _WELL_S:
                return
            self._is_asking = True
        if in_background(self._ask_aside, "smw-cache-aside") is None:
            self._is_asking = False

    def _ask_aside(self) -> None:
        began = self._now()
        try:
            self._probe()
        except StoreFailedError as error:
            if error.kind != "lag":  # all connections are still in use, and those who use them tell how it goes
                self._failed(error, self._now() - began)
        except Exception:  # noqa: BLE001 - a client choked on what the server sent
            self._failed(StoreFailedError("protocol"), self._now() - began)
        else:
            self._well_at = self._now()
            self.breaker.ok()
        finally:
            self._is_asking = False

    def _failed(self, error: StoreFailedError, took_s: float) -> None:
        self.errors[error.kind] += 1
        if error.counts:
            for level in self.together():
                level.breaker.failed(error.remedy or error.kind, permanent=error.permanent, took_s=took_s)
        elif self._now() - self._said.get(error.kind, -_SAY_EVERY_S) >= _SAY_EVERY_S:
            self._said[error.kind] = self._now()
            told = {"cache_level": self.name}
            why = error.remedy or error.kind
            _log.warning("%s refused a request (%s); said once a minute", self.store.name, why, extra=told)
        if error.kind == "answer":
            self._doubted()  # it may refuse everything

    async def drop(self, owed: Owed, *, budget: Budget, mode: Mode) -> None:
        """Drop what is owed; what is not acknowledged in time is paid in the background."""
        done = None
        try:
            done = await self.ask(self._drop, owed, budget=budget, mode=mode)
        finally:
            if done:
                self.debt.settle(owed)
                if self._is_due:
                    self.wake()
            else:
                self.wake()

    async def _drop(self, owed: Owed, *, mode: Mode, timeout_s: float) -> bool:
        self.receipts.note(owed, await self.store.drop(owed.counters, owed.keys, mode=mode, timeout_s=timeout_s))
        return True

    async def know_time(self, now: float, *, budget: Budget, mode: Mode) -> None:
        """Ask the server what time it is, where that is not known at the moment `now`.

        Coroutines of one event loop ask together. Threads ask each for itself: it is one small request for as many as
        there are before the first answer, and none of them can be kept by another that does not come to its own.
        """
        if not self.time.is_due(now):
            return
        if mode == "sync":
            await self.learn_time(budget=budget, mode=mode)
            return
        self.time.asked(now)
        if not await self._telling.wait(self._learn_for_all, budget):
            self.errors["budget"] += 1

    async def _learn_for_all(self) -> None:
        await self.learn_time(budget=Allowance(self._clock, self._timeout_s), mode="async")

    async def learn_time(self, *, budget: Budget, mode: Mode) -> None:
        """Ask the server what time it is, if it tells."""
        store: Any = self.store
        asked = self._now()
        self.time.asked(asked)
        time_s = await self.ask(store.time, budget=budget, mode=mode)
        if time_s is None:
            self.time.untold(self._now())
        else:
            self.time.learned(time_s, asked=asked, told=self._now())

    def pay(self) -> None:
        """Drop everything that is owed; blocks.

        Raises:
            StoreFailedError: The server did not acknowledge.
        """
        while self.debt:
            owed = self.debt.batch()
            run_blocking(self._drop(owed, mode="sync", timeout_s=_PAY_S))
            self.debt.settle(owed)

    def _back(self) -> None:
        """Pay before callers are let through; a server that only refuses to write is let back for reading."""
        self.time.doubt()
        try:
            if self.greet is not None:
                self.greet()
            self.pay()
        except StoreFailedError as error:
            if error.counts:
                raise
            self.wake()

    def distrust(self) -> None:
        """Take nothing from the server until it has dropped everything: what it had acknowledged may be lost."""
        self.debt.add([self._everything], [])
        self.time.doubt()
        self.wake()

    def wake(self) -> None:
        """Have what is owed paid in the background; nothing owed is paid soon. Never fails."""
        self.debt.bound()
        with self._lock:
            if self._payer is None and not self._stop.is_set():
                self._payer = in_background(self._pay_until_even, "smw-cache-debt")
                self._is_due = self._payer is None

    def tend(self) -> None:
        """See to what is owed where nobody pays: no thread could be had for it, or it has stayed in the parent."""
        if self._is_due:
            self.wake()
        self.breaker.allows()  # which sees to its own thread

    def _pay_until_even(self) -> None:
        pause_s = _PAY_FIRST_S
        while not self._stop.wait(pause_s):
            pause_s = min(pause_s * 2, _PAY_MOST_S)
            if self.breaker.is_open:  # whoever closes it pays first
                continue
            try:
                self.pay()
            except Exception as error:  # noqa: BLE001 - owed until it is acknowledged, whatever went wrong
                _log.debug("an invalidation is still owed to %s: %s", self.store.name, error)
            with self._lock:
                if not self.debt:
                    self._payer = None
                    return

    def close(self) -> None:
        """Pay once more if possible, then stop asking; idempotent."""
        if self.debt and not self._stop.is_set() and not self.breaker.is_open:
            try:
                self.pay()
            except Exception as error:  # noqa: BLE001 - closing goes on
                _log.debug("closing with debt: %s", error)
        if self.debt and not self._stop.is_set():
            _log.error("%d invalidations were never acknowledged by %s", len(self.debt), self.store.name)
        self._stop.set()
        self.breaker.close()
        self.store.close()

    async def aclose(self) -> None:
        """Pay once more if possible, then stop asking; idempotent."""
        await self.store.aclose()
        self.close()
