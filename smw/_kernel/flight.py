"""One run of a loader per key in a process, shared by threads and coroutines of any loop; knows no cache."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Awaitable, Callable, Hashable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from smw._kernel.process import ForkLock, after_fork
from smw.errors import SmwError

if TYPE_CHECKING:
    from smw._kernel.call import Mode

__all__ = ["Flights", "RecursiveLoadError"]

Load = Callable[[], Awaitable[Any]]
_leading: ContextVar[tuple[_Flight, ...]] = ContextVar("smw_leading", default=())
_waits = ForkLock()
_LOOK_S = 0.25


class RecursiveLoadError(SmwError, RecursionError):
    """A loader called itself for the key that it is loading."""


class _Lost(Exception):
    """The leader ended without an answer (interrupted, or its loop was closed)."""


class _Flight:
    __slots__ = ("future", "task", "waiters", "waits_on")

    def __init__(self) -> None:
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        # Running futures refuse cancellation, so that one waiter cannot cancel it for the others.
        self.future.set_running_or_notify_cancel()
        self.task: asyncio.Task[Any] | None = None
        self.waiters = 1
        self.waits_on: set[_Flight] = set()

    def is_stranded(self) -> bool:
        """Tell whether its task belongs to an event loop that no longer runs, so that nobody will ever land it."""
        return self.task is not None and not self.future.done() and not self.task.get_loop().is_running()


def _would_deadlock(flight: _Flight, stack: tuple[_Flight, ...]) -> bool:
    """Tell whether `flight` waits, through any chain of others, for a flight led from here."""
    seen: set[_Flight] = set()
    todo = [flight]
    while todo:
        other = todo.pop()
        if other in stack:
            return True
        if other not in seen:
            seen.add(other)
            todo.extend(other.waits_on)
    return False


class Flights:
    """The loads in flight of one owner.

    A caller that finds its key in flight waits for that result. A leader that is cancelled does not take
    its followers along: an asynchronous load runs in its own task and is cancelled only when its last
    waiter has gone. An exception of the loader reaches every waiter once. Waiting for each other in a
    circle is noticed, and the caller that would close the circle loads for itself.
    """

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._flights: dict[Hashable, _Flight] = {}
        after_fork(self._forked)

    def _forked(self) -> None:
        self._flights = {}

    def __len__(self) -> int:
        """Return how many loads are in flight."""
        return len(self._flights)

    def fly(self, key: Hashable, load: Load, mode: Mode) -> Awaitable[Any]:
        """Return an awaitable of what `load` returns for `key`, running it at most once at a time; await it at once.

        Args:
            key: Identity of the load within this owner.
            load: Takes no argument. In mode ``sync`` it must not suspend.
            mode: Whether waiting blocks the thread (``sync``) or suspends the task.

        Raises:
            RecursiveLoadError: `load` asks for `key` itself.
            BaseException: What `load` raises.
        """
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and flight.waiters > 0 and not flight.is_stranded():
                flight.waiters += 1
                return self._follow(key, flight, load, mode)
            flight = self._flights[key] = _Flight()
        return self._lead(key, flight, load) if mode == "sync" else self._launch(key, flight, load)

    def _leave(self, key: Hashable, flight: _Flight) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]

    async def _lead(self, key: Hashable, flight: _Flight, load: Load) -> Any:
        token = _leading.set((*_leading.get(), flight))
        try:
            result = await load()
        except Exception as error:
            flight.future.set_exception(error)
            raise
        except BaseException:
            flight.future.set_exception(_Lost())
            raise
        else:
            flight.future.set_result(result)
            return result
        finally:
            self._leave(key, flight)
            with contextlib.suppress(ValueError):  # ended by the garbage collector, in another context
                _leading.reset(token)

    async def _launch(self, key: Hashable, flight: _Flight, load: Load) -> Any:
        flight.task = asyncio.get_running_loop().create_task(self._lead(key, flight, load))
        # Every waiter reads the future; the task's own exception would otherwise be reported as never read.
        flight.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await self._wait(flight, asyncio.shield(flight.task))

    async def _follow(self, key: Hashable, flight: _Flight, load: Load, mode: Mode) -> Any:
        stack = _leading.get()
        if flight in stack:
            flight.waiters -= 1
            raise RecursiveLoadError(
                "SMW-K130",
                "a cached function called itself with the same arguments while computing them",
                fix="call the uncached function (fn.__wrapped__) for the inner step",
            )
        with _waits:
            alone = bool(stack) and _would_deadlock(flight, stack)
            if not alone:
                for own in stack:
                    own.waits_on.add(flight)
        try:
            if alone:
                return await load()
            return await (_until_landed(flight) if mode == "sync" else self._wait(flight, _landing(flight)))
        except _Lost:
            self._leave(key, flight)
        finally:
            with _waits:
                for own in stack:
                    own.waits_on.discard(flight)
        return await self.fly(key, load, mode)

    async def _wait(self, flight: _Flight, result: Awaitable[Any]) -> Any:
        try:
            return await result
        except asyncio.CancelledError:
            with self._lock:
                flight.waiters -= 1
                last = flight.waiters == 0
            if last and flight.task is not None and not flight.task.done():
                flight.task.get_loop().call_soon_threadsafe(flight.task.cancel)
            raise


async def _until_landed(flight: _Flight) -> Any:
    return flight.future.result()


async def _landing(flight: _Flight) -> Any:
    """Wait for a flight; one whose event loop was stopped or closed with it under way is lost."""
    landed = asyncio.wrap_future(flight.future)
    try:
        while not (await asyncio.wait({landed}, timeout=_LOOK_S))[0]:
            if flight.is_stranded():
                raise _Lost
        return landed.result()
    finally:
        landed.cancel()  # no one would read its outcome; the flight itself cannot be cancelled by this
