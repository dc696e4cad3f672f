"""Answers many calls of one cached function at once: from memory, from one look at the servers, from one load."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import types
from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.bridge import in_thread, on_asyncio
from smw._kernel.call import Call
from smw._kernel.drive import fuse
from smw.cache.coherence.collecting import tell
from smw.cache.functions.standing import steps_on
from smw.cache.levels.ahead import AT_ONCE, look_many
from smw.cache.levels.level import run_blocking
from smw.cache.loading.few import Few, Results
from smw.cache.loading.many import MOST_AT_ONCE, Outcome
from smw.cache.loading.stepping import LEASE, LOAD, LOOK, RELEASE, ask, stepped
from smw.cache.warming.explicit import parted, several
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence

    from smw._kernel.call import Mode
    from smw._kernel.chain import Proceed
    from smw.cache.functions.function import CachedFunction
    from smw.cache.levels.engine import Look, Place
    from smw.cache.loading.leasing import Asked
    from smw.cache.loading.many import Many
    from smw.cache.ports import Lease

__all__ = ["get_many", "get_many_sync"]

_LOOK_AT_ONCE = 255
"""About how many places the servers are asked before what they have is handed out; a whole number of questions."""
_COME_S = 0.25
"""How long calls wait in vain at most until those before them have come to their loads: others may load for these."""


async def get_many(fn: Callable[..., Any], calls: Iterable[Any], *, concurrency: int = 8) -> list[Any]:
    """Return the results of many calls of a cached function, in their order.

    Memory is asked first, then the servers with one question for all that it does not have. What nobody has is loaded
    with one call of `many=`, or else by `concurrency` calls of the function at a time. What is being loaded already is
    waited for. A blocking function runs in a thread.

    Args:
        fn: A function decorated with `cached`.
        calls: The arguments of each call: a tuple or list of positional ones, a mapping of named ones, or anything else
            as the only one.
        concurrency: How many calls of a function without `many=` run at once.

    Raises:
        ConfigError: `fn` is not cached, `calls` are not several, or `concurrency` is less than 1.
        Exception: What the first call that failed has raised, once all have ended; results of the others are kept.
    """
    given = list(several(calls, "get_many", "SMW-C172"))
    if not inspect.iscoroutinefunction(fn):
        return await in_thread(get_many_sync, fn, given)
    most = _checked(concurrency)
    together, results = _together(fn, given), Results(len(given))
    async with Few(most) as few:
        if together is not None:
            await together.awaited(few, results)
        else:
            for number, (args, kwargs) in enumerate(map(parted, given)):
                await few.begin(partial(results.keep, [number], partial(_alone, fn, args, kwargs)))
    return results.taken()


async def _alone(fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    return [await fn(*args, **kwargs)]


def _checked(concurrency: object) -> int:
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ConfigError("SMW-C172", "concurrency= takes a number from 1 on", seen=concurrency, fix="concurrency=8")
    return concurrency


def get_many_sync(fn: Callable[..., Any], calls: Iterable[Any]) -> list[Any]:
    """Return what `get_many` does, from blocking code; an async function runs in an event loop of its own.

    Raises:
        ConfigError: `fn` is not cached, or is async where an event loop runs in this thread.
        Exception: What the first call that failed has raised, once all have ended; results of the others are kept.
    """
    given = list(several(calls, "get_many_sync", "SMW-C172"))
    if inspect.iscoroutinefunction(fn):
        if on_asyncio():
            raise ConfigError("SMW-C172", "get_many_sync would block a running event loop", fix="await get_many(...)")
        return asyncio.run(get_many(fn, given))
    together = _together(fn, given)
    results = Results(len(given))
    if together is not None:
        # Of its own, for the loads of several calls are under way in it at once.
        contextvars.copy_context().run(together.blocking, results)
        return results.taken()
    for number, (args, kwargs) in enumerate(map(parted, given)):
        try:
            results.put([number], [fn(*args, **kwargs)])
        except Exception as error:  # noqa: BLE001 - raised once all have ended
            results.fail([number], error)
    return results.taken()


def _together(fn: Callable[..., Any], given: Sequence[Any]) -> _Together | None:
    """Return all calls as one, or None where decorators above `cached` have something to do with each of them."""
    steps = steps_on(fn)
    if steps.above or steps.own is None:
        return None
    target, below = steps.target, fuse(steps.below, steps.target.kind)
    first = (fn.__self__,) if isinstance(fn, types.MethodType) else ()
    calls = [Call(target, (*first, *args), kwargs) for args, kwargs in map(parted, given)]
    return _Together(steps.cached.function(target), calls, lambda call: lambda: below(call))


class _Wanted:
    """One result that is wanted.

    Attributes:
        call: The first call that wants it.
        place: Where it belongs; None for a call that goes past the cache.
        numbers: All calls that want it.
        look: What the servers show.
    """

    __slots__ = ("call", "look", "numbers", "place")

    def __init__(self, call: Call, place: Place | None, number: int) -> None:
        self.call = call
        self.place = place
        self.numbers = [number]
        self.look: Look | None = None


class _Turn:
    """One of many that load at once: what is loaded is stored when it is its turn, so that no time-out runs meanwhile.

    Args:
        proceed: Loads.
        turns: How many may store at once.

    Attributes:
        come: Done when it has come to its load, or needs none.
    """

    __slots__ = ("_has_turn", "_is_over", "_proceed", "_turns", "come")

    def __init__(self, proceed: Proceed, turns: asyncio.Semaphore) -> None:
        self.come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._proceed = proceed
        self._turns = turns
        self._has_turn = self._is_over = False

    def _comes(self) -> None:
        if not self.come.done():
            self.come.set_result(None)

    async def load(self) -> Any:
        """Load, and wait for the turn, unless whoever would give it back has left: others wait for this load too."""
        self._comes()
        value = await self._proceed()
        if not self._has_turn and not self._is_over:
            await self._turns.acquire()
            self._has_turn = True
            self._give_back()
        return value

    def _give_back(self) -> None:
        if self._is_over and self._has_turn:
            self._has_turn = False
            self._turns.release()

    async def take(self, job: Callable[[], Awaitable[None]]) -> None:
        """Run the whole of which loading is a part."""
        try:
            await job()
        finally:
            self._is_over = True
            self._comes()
            self._give_back()


class _Together:
    """Calls that are answered at once.

    Args:
        function: The cached function.
        calls: All of them.
        below: Calls what stands below `cached`.
    """

    def __init__(self, function: CachedFunction, calls: Sequence[Call], below: Callable[[Call], Proceed]) -> None:
        self._function = function
        self._calls = calls
        self._below = function.many.loading if function.many is not None else below
        self._landed = function.landed

    async def awaited(self, few: Few, results: Results) -> None:
        """Answer within the running event loop.

        The servers are asked about some at a time, and what they have is handed out before they are asked about more:
        all that goes with a place, times all places, would keep Python's collector busy for long.
        """
        wanted, missing = await self._remembered("async", results), list[_Wanted]()
        many = self._function.many
        for start in range(0, len(wanted), _LOOK_AT_ONCE):
            some = wanted[start : start + _LOOK_AT_ONCE]
            await self._look(some, "async")
            for number, each in enumerate(some):
                if each.look is not None and each.look.found is not None:
                    if number % AT_ONCE == AT_ONCE - 1:
                        await _others()
                    await self._settle(each, self._loader(each), results)
                elif many is None:
                    await few.begin(partial(self._settle, each, self._loader(each), results))
                else:
                    missing.append(each)
            while many is not None and len(missing) >= MOST_AT_ONCE:
                await self._gathered(missing[:MOST_AT_ONCE], many, results)
                del missing[:MOST_AT_ONCE]
        if many is not None and missing:
            await self._gathered(missing, many, results)

    async def _settle(self, wanted: _Wanted, proceed: Proceed, results: Results) -> None:
        """Answer one."""
        await results.keep(wanted.numbers, partial(self._answer, wanted, proceed))

    async def _gathered(self, wanted: Sequence[_Wanted], many: Many, results: Results) -> None:
        """Answer with one load, begun and stored a few at a time: the event loop sees to others meanwhile."""
        release, turns, tasks = many.hold(), asyncio.Semaphore(AT_ONCE), list[asyncio.Task[None]]()
        loop, patience_s = asyncio.get_running_loop(), _COME_S
        try:
            for start in range(0, len(wanted), AT_ONCE):
                some = wanted[start : start + AT_ONCE]
                come = [_Turn(self._loader(each), turns) for each in some]
                for each, turn in zip(some, come, strict=True):
                    tasks.append(loop.create_task(turn.take(partial(self._settle, each, turn.load, results))))
                began = loop.time()
                _, late = await asyncio.wait([turn.come for turn in come], timeout=patience_s)
                patience_s -= loop.time() - began if late else 0.0
        except BaseException:
            for task in tasks:
                task.cancel()
            raise
        finally:
            release()
        await asyncio.gather(*tasks)

    def blocking(self, results: Results) -> None:
        """Answer in blocking code."""
        wanted = run_blocking(self._remembered("sync", results))
        run_blocking(self._look(wanted, "sync"))
        if self._function.many is None:
            for each in wanted:
                run_blocking(self._settle(each, self._loader(each), results))
            return
        for each in wanted:
            each.place = None if each.place is None else each.place._replace(is_stepped=True)
        jobs = [self._answer(each, self._loader(each, asks=True)) for each in wanted]
        ended = stepped(jobs, self._answers(wanted), self._function.engine.host.clock.now)
        for each, outcome in zip(wanted, ended, strict=True):
            if outcome.error is None:
                results.put(each.numbers, outcome.value)
            else:
                results.fail(each.numbers, outcome.error)

    async def _remembered(self, mode: Mode, results: Results) -> list[_Wanted]:
        """Answer what memory has, and return what it has not."""
        function, engine = self._function, self._function.engine
        wanted: dict[Any, _Wanted] = {}
        for number, call in enumerate(self._calls):
            if mode == "async" and number % AT_ONCE == AT_ONCE - 1:
                await _others()
            place = function.placed(call)
            same = number if place is None else (id(place.home), place.key)
            if same in wanted:
                wanted[same].numbers.append(number)
                continue
            entry = None if place is None else engine.fresh(place)
            if entry is None:
                wanted[same] = _Wanted(call, place, number)
            else:
                function.stats.hits += 1
                tell(engine, place, entry)
                await results.keep([number], partial(_copied, entry.copy))
        return list(wanted.values())

    async def _look(self, wanted: Sequence[_Wanted], mode: Mode) -> None:
        """Ask the servers, with one look, about those that they may have."""
        function = self._function
        shared = [each for each in wanted if each.place is not None and function.is_shared(each.place)]
        places = [each.place for each in shared if each.place]
        looks = await look_many(function.engine, places, function.policy, mode)
        for each, look in zip(shared, looks, strict=True):
            each.look = look

    def _loader(self, wanted: _Wanted, *, asks: bool = False) -> Proceed:
        proceed = partial(ask, LOAD) if asks else self._below(wanted.call)
        return (
            proceed
            if wanted.place is None
            else self._function.loader(wanted.call, wanted.place, proceed, is_timed=not asks)
        )

    async def _answer(self, wanted: _Wanted, proceed: Proceed) -> list[Any]:
        """Return a result for each call that wants it."""
        function, place, look = self._function, wanted.place, wanted.look
        wanted.look = None  # what was seen of it must not outlive its answer
        if place is None:
            return [await proceed()]
        look = None if look is None else look._replace(budget=function.engine.budget())  # waiting costs it nothing
        flight = function.flight_of(place)
        finding = await function.find(wanted.call, place, proceed, flight=flight, look=look, landed=self._landed)
        results = []
        for _ in wanted.numbers:
            taken, value = finding.take()
            results.append(value if taken else await proceed())
        return results

    def _answers(self, wanted: Sequence[_Wanted]) -> dict[str, Callable[[list[int], list[Any]], list[Outcome]]]:
        """Return what does for several results what loading one of them asks for."""
        engine, policy = self._function.engine, self._function.policy

        def look(_numbers: list[int], places: list[Place]) -> list[Outcome]:
            return [Outcome(look) for look in run_blocking(look_many(engine, places, policy, "sync"))]

        def lease(_numbers: list[int], asked: list[Asked]) -> list[Outcome]:
            assert engine.fleet is not None  # noqa: S101 - for the type checker
            return [Outcome(leased) for leased in run_blocking(engine.fleet.leasing.now(asked, "sync"))]

        def release(_numbers: list[int], left: list[tuple[Lease, str]]) -> list[Outcome]:
            assert engine.fleet is not None  # noqa: S101 - for the type checker
            run_blocking(engine.fleet.leasing.release(left, "sync"))
            return [Outcome(None)] * len(left)

        def load(numbers: list[int], _none: list[None]) -> list[Outcome]:
            return self._load([wanted[number].call for number in numbers])

        return {RELEASE: release, LOOK: look, LEASE: lease, LOAD: load}

    def _load(self, calls: list[Call]) -> list[Outcome]:
        many = self._function.many
        assert many is not None  # noqa: S101 - for the type checker

        async def load() -> list[Outcome]:
            return many.load_now(calls)

        loading = self._function.timed(load)
        return run_blocking(_awaited(loading))  # type: ignore[no-any-return]


@types.coroutine
def _others() -> Generator[None, None, None]:
    """Let the event loop see to others."""
    yield


async def _awaited(job: Callable[[], Awaitable[Any]]) -> Any:
    return await job()


async def _copied(copy: Callable[[], Any]) -> list[Any]:
    return [copy()]
