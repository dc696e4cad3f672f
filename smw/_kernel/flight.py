"""One run of a loader per key in a process, shared by threads and coroutines of any loop; knows no cache."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.aloft import WAITS, Flight, would_deadlock
from smw._kernel.blocked import is_awaited_by
from smw._kernel.clock import SystemClock
from smw._kernel.process import ForkLock, after_fork
from smw.errors import SmwError

if TYPE_CHECKING:
    from smw._kernel.call import Mode

__all__ = ["Flights", "RecursiveLoadError", "flying", "lead", "led", "led_names", "name_led", "recursive"]

Load = Callable[[], Awaitable[Any]]
Meanwhile = Sequence[tuple[float, Callable[[], Awaitable[tuple[Any] | None]]]]
"""After so many seconds of waiting, what to ask for something else to give: (value,), or None to wait on."""
_leading: ContextVar[tuple[Flight, ...]] = ContextVar("smw_leading", default=())
_LOOK_S = 0.25
_FIRST_LOOK_S = 0.05
_now = SystemClock.now


def led() -> tuple[object, ...]:
    """Return the flights whose loads run here."""
    return _leading.get()


def name_led(name: str) -> None:
    """Say how others know what the innermost flight loads that is led here."""
    flights = _leading.get()
    if flights:
        flights[-1].name = name


def led_names() -> tuple[str, ...]:
    """Return the names of what is loaded here, as far as it has any."""
    return tuple([flight.name for flight in _leading.get() if flight.name])


def lead(flights: Iterable[Any]) -> None:
    """Run the loads of `flights` in this context from now on: what it calls for any of them calls itself."""
    _leading.set(tuple(flights))


@contextlib.contextmanager
def flying(flights: Iterable[Any]) -> Iterator[None]:
    """Run the loads of `flights` in this block: what it calls for any of them calls itself."""
    token = _leading.set(tuple(flights))
    try:
        yield
    finally:
        _leading.reset(token)


class RecursiveLoadError(SmwError, RecursionError):
    """A loader called itself for the key that it is loading."""


def recursive(name: str) -> RecursiveLoadError:
    """Return the error of a function of that name whose load asks for itself."""
    what = f"{name} called itself with the same arguments while computing them"
    fix = "call the uncached function (fn.__wrapped__) for the inner step"
    return RecursiveLoadError("SMW-K130", what, fix=fix)


class _Lost(Exception):
    """The leader ended without an answer (interrupted, or its loop was closed)."""


class _Overdue(Exception):
    """The leader takes so long that whoever gets this is to load too."""


class Flights:
    """The loads in flight of one owner.

    A caller that finds its key in flight waits for that result. A leader that is cancelled does not take
    its followers along: an asynchronous load runs in its own task and is cancelled only when its last
    waiter has gone. An exception of the loader reaches every waiter once, as an equal one of its own where it can be
    copied: no traceback holds another's frames. Waiting for each other in a circle is noticed, and the caller that
    would close the circle loads for itself. No wait depends on the leader alone: each minute one of those who wait
    loads too. A load that nobody waits for, or nobody waits for any more, runs to its end all the same;
    `close` ends it.

    Args:
        name: What is loaded, for messages.
        overdue: Called by whoever loads too.
    """

    def __init__(self, name: str = "a cached function", overdue: Callable[[], None] = lambda: None) -> None:
        self._name = name
        self._overdue = overdue
        self._lock = ForkLock()
        self._flights: dict[Hashable, Flight] = {}
        self._unattended: set[asyncio.Task[Any]] = set()
        after_fork(self._forked)

    def _forked(self) -> None:
        self._flights = {}
        self._unattended = set()

    def __len__(self) -> int:
        """Return how many loads are in flight."""
        return len(self._flights)

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether `key` is in flight, so that `fly` would wait for it."""
        return self._in_air(key) is not None

    def fly(self, key: Hashable, load: Load, mode: Mode, *, meanwhile: Meanwhile = ()) -> Awaitable[Any]:
        """Return an awaitable of what `load` returns for `key`, running it at most once at a time; await it at once.

        Args:
            key: Identity of the load within this owner.
            load: Takes no argument. In mode ``sync`` it must not suspend.
            mode: Whether waiting blocks the thread (``sync``) or suspends the task.
            meanwhile: What may end the wait before the load has ended; the load goes on. Who loads in mode ``sync``
                does so itself, and cannot leave.

        Raises:
            RecursiveLoadError: `load` asks for `key` itself.
            BaseException: What `load` raises, or something in `meanwhile`.
        """
        with self._lock:
            flight = self._in_air(key)
            if flight is not None:
                flight.waiters += 1
                return self._follow(key, flight, load, mode, meanwhile)
            flight = Flight(mode)
            leads = self._lead(key, flight, load) if mode == "sync" else self._launch(key, flight, load, meanwhile)
            flight.leads = weakref.ref(leads)
            self._flights[key] = flight  # when it can be told whether it is over
        return leads

    def depart(self, key: Hashable, load: Load, mode: Mode) -> Awaitable[Any] | None:
        """Begin a load for which nobody waits; None if one of `key` is under way.

        Args:
            key: As for `fly`.
            load: As for `fly`.
            mode: In mode ``async`` it runs in a task, and what is returned need not be awaited; in mode ``sync`` it
                runs when that is awaited.
        """
        loop = asyncio.get_running_loop() if mode == "async" else None
        with self._lock:
            if self._in_air(key) is not None:
                return None
            flight = Flight(mode)
            leads = self._lead(key, flight, load)
            flight.leads = weakref.ref(leads)
            self._flights[key] = flight
        if loop is None:
            return leads
        context = copy_context()
        context.run(_leading.set, ())  # it is part of nothing that is being loaded here
        flight.task = loop.create_task(leads, context=context)
        flight.task.add_done_callback(_taken)
        self._leave_alone(flight)
        return flight.task

    def _in_air(self, key: Hashable) -> Flight | None:
        flight = self._flights.get(key)
        return flight if flight is not None and flight.waiters > 0 and not flight.is_over() else None

    def _leave_alone(self, flight: Flight) -> None:
        """Let a flight go on without those who wait for it: whoever leaves it so still counts as waiting."""
        task = flight.task
        if task is not None and not task.done():
            self._unattended.add(task)
            task.add_done_callback(self._unattended.discard)

    def close(self) -> None:
        """Have what nobody waits for cancelled, each in its own loop, without waiting; idempotent."""
        for task in tuple(self._unattended):
            with contextlib.suppress(RuntimeError):  # its loop has ended, and the task with it
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def aclose(self) -> None:
        """Cancel what nobody waits for and wait for its end in the running loop, then as `close`; idempotent."""
        loop = asyncio.get_running_loop()
        here = [task for task in self._unattended if task.get_loop() is loop]
        for task in here:
            task.cancel()
        if here:
            await asyncio.wait(here)
        self.close()

    def _leave(self, key: Hashable, flight: Flight) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]

    async def _lead(self, key: Hashable, flight: Flight, load: Load) -> Any:
        token = _leading.set((*[outer for outer in _leading.get() if not outer.is_over()], flight))
        try:
            result = await load()
        except Exception as error:
            flight.land(error=error)
            raise
        except BaseException:
            flight.land(error=_Lost())
            raise
        else:
            flight.land(result)
            return result
        finally:
            self._leave(key, flight)
            with contextlib.suppress(ValueError):  # ended by the garbage collector, in another context
                _leading.reset(token)
            del flight  # or an error, which has this frame, would keep itself and all that the load had in its hands

    async def _launch(self, key: Hashable, flight: Flight, load: Load, meanwhile: Meanwhile) -> Any:
        loop = asyncio.get_running_loop()
        landed: asyncio.Future[Any] = loop.create_future()  # as `shield` makes one, at half the price
        flight.task = loop.create_task(self._lead(key, flight, load))
        flight.task.add_done_callback(partial(_passed_on, landed))
        leads = self._landing(flight, landed, meanwhile, leads=True) if meanwhile else landed
        try:
            return await self._wait(flight, leads)
        finally:
            del flight, landed, leads

    async def _follow(self, key: Hashable, flight: Flight, load: Load, mode: Mode, meanwhile: Meanwhile) -> Any:
        stack = _leading.get()
        if flight in stack:
            flight.waiters -= 1
            raise recursive(self._name)
        with WAITS:
            alone = bool(stack) and would_deadlock(flight, stack)
            if not alone:
                for own in stack:
                    own.waits_on.add(flight)
        try:
            if alone:
                return await load()
            if mode == "sync":
                return await self._until_landed(flight, meanwhile)
            landed = asyncio.wrap_future(flight.landing.future())
            return await self._wait(flight, self._landing(flight, landed, meanwhile))
        except _Lost:
            overdue = False
        except _Overdue:
            overdue = True
        finally:
            with WAITS:
                for own in stack:
                    own.waits_on.discard(flight)
        self._leave(key, flight)
        if overdue:
            self._overdue()
        result = await self.fly(key, load, mode, meanwhile=meanwhile)
        flight.land(result)
        return result

    async def _wait(self, flight: Flight, result: Awaitable[Any]) -> Any:
        try:
            return await result
        except asyncio.CancelledError:
            with self._lock:
                flight.waiters -= 1
                last = flight.waiters == 0
            if last and flight.task is not None and not flight.task.done():
                with contextlib.suppress(RuntimeError):  # its loop has ended, and the task with it
                    flight.task.get_loop().call_soon_threadsafe(flight.task.cancel)
            raise
        finally:
            del flight, result

    async def _instead(self, flight: Flight, ask: Callable[[], Awaitable[tuple[Any] | None]]) -> tuple[Any] | None:
        """Ask for something else to give; whoever has got it, an error included, leaves the flight alone."""
        try:
            given = await ask()
        except Exception:  # raised again: whoever has an error to give has left the flight
            self._leave_alone(flight)
            raise
        if given is not None:
            self._leave_alone(flight)
        return given

    async def _until_landed(self, flight: Flight, meanwhile: Meanwhile) -> Any:
        began, steps, look_s, landed = _now(), list(meanwhile), _FIRST_LOOK_S, flight.landing.future()
        while True:
            left_s = max(0.0, began + steps[0][0] - _now()) if steps else look_s
            if concurrent.futures.wait([landed], timeout=min(left_s, look_s)).done:
                return flight.outcome(landed)
            if flight.is_stranded():
                raise _Lost
            if steps and began + steps[0][0] <= _now():
                given = await self._instead(flight, steps.pop(0)[1])
                if given is not None:
                    return given[0]
            if flight.thread is not None and is_awaited_by(flight.thread):
                raise recursive(self._name)
            if flight.is_overdue():
                raise _Overdue
            look_s = min(2 * look_s, 1.0)

    async def _landing(
        self, flight: Flight, landed: asyncio.Future[Any], meanwhile: Meanwhile, *, leads: bool = False
    ) -> Any:
        """Wait for a flight; one whose event loop was stopped or closed with it under way is lost."""
        began, steps = _now(), list(meanwhile)
        try:
            while True:
                left_s = max(0.0, began + steps[0][0] - _now()) if steps else _LOOK_S
                if (await asyncio.wait({landed}, timeout=min(left_s, _LOOK_S)))[0]:
                    return landed.result() if leads else flight.outcome(landed)
                if flight.is_stranded():
                    raise _Lost
                if not leads and flight.is_overdue():
                    raise _Overdue
                if steps and began + steps[0][0] <= _now():
                    given = await self._instead(flight, steps.pop(0)[1])
                    if given is not None:
                        return given[0]
        finally:
            landed.cancel()  # no one would read its outcome; the flight itself cannot be cancelled by this
            del flight, landed


def _passed_on(landed: asyncio.Future[Any], task: asyncio.Task[Any]) -> None:
    """Tell whoever waits for a task without being able to cancel it; who has left hears nothing."""
    error = None if task.cancelled() else task.exception()
    if landed.done():
        return
    if task.cancelled():
        landed.cancel()
    elif error is None:
        landed.set_result(task.result())
    else:
        landed.set_exception(error)


def _taken(task: asyncio.Task[Any]) -> None:
    """Read a task's exception: every waiter reads the future's, and the task's own would be reported as never read."""
    if not task.cancelled():
        task.exception()
