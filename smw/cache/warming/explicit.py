"""Calls a cached function for many arguments before anybody asks for them; knows no level."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.bridge import in_thread, on_asyncio
from smw._kernel.threads import in_background
from smw.cache.functions.standing import cached_on
from smw.cache.loading.calling import LOADS, PAST
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = ["Warmed", "parted", "several", "warm", "warm_sync"]

_log = logging.getLogger("smw.cache")


@dataclass(frozen=True, slots=True)
class Warmed:
    """What a warm-up has done.

    Attributes:
        loaded: Calls for which the function ran.
        hit: Calls that a level answered.
        failed: Calls that raised.
        error: The first exception of those.
        past: Calls that went past the cache, so that nothing is kept of them.
    """

    loaded: int
    hit: int
    failed: int
    error: Exception | None = None
    past: int = 0


class _Count:
    def __init__(self, name: str, *, keeps_any: bool) -> None:
        self.name = name
        self.keeps_any = keeps_any
        self.loaded = self.hit = self.failed = self.past = 0
        self.error: Exception | None = None
        self._lock = threading.Lock()

    def done(self, loads: list[str]) -> None:
        with self._lock:
            if not self.keeps_any or PAST + self.name in loads:
                self.past += 1
            elif self.name in loads:
                self.loaded += 1
            else:
                self.hit += 1

    def raised(self, error: Exception) -> None:
        with self._lock:
            self.failed += 1
            first, self.error = self.error is None, self.error or error
        if first:
            _log.warning("warming up %s: a call raised %s; others go on", self.name, type(error).__name__)

    def result(self) -> Warmed:
        return Warmed(self.loaded, self.hit, self.failed, self.error, self.past)


async def warm(fn: Callable[..., Any], calls: Iterable[Any] | AsyncIterable[Any], *, concurrency: int = 8) -> Warmed:
    """Call a cached function for each of `calls`, so that its results are there when they are asked for.

    What a level holds is not loaded again. A call that raises is counted, and the others go on. A blocking function
    runs in threads.

    Args:
        fn: A function decorated with `cached`, called as anybody would: all its decorators apply.
        calls: The arguments of each call: a tuple or list of positional ones, a mapping of named ones, or anything else
            as the only one. They are taken as they are needed.
        concurrency: How many calls run at once.

    Raises:
        ConfigError: `fn` is not cached, `calls` are not several, or `concurrency` is less than 1.
    """
    count, call = _checked(fn, concurrency), _awaited(fn)
    several(calls, "warm", "SMW-C124")
    source, turn = _from(calls), asyncio.Lock()

    async def work() -> None:
        while True:
            async with turn:
                try:
                    args, kwargs = parted(await anext(source))
                except StopAsyncIteration:
                    return
            loads: list[str] = []
            token = LOADS.set(loads)
            try:
                await call(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - whatever the function raises is counted
                count.raised(error)
            else:
                count.done(loads)
            finally:
                LOADS.reset(token)

    async with contextlib.aclosing(source):
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(work())
        except BaseExceptionGroup as group_error:  # `calls` itself has failed
            raise group_error.exceptions[0] from None
    return count.result()


def warm_sync(fn: Callable[..., Any], calls: Iterable[Any], *, concurrency: int = 8) -> Warmed:
    """Warm up as `warm` does, from blocking code; an async function runs in an event loop of its own.

    Raises:
        ConfigError: `fn` is not cached, `calls` are not several, `concurrency` is less than 1, or an event loop
            runs in this thread.
    """
    count = _checked(fn, concurrency)
    several(calls, "warm_sync", "SMW-C124")
    if inspect.iscoroutinefunction(fn):
        if on_asyncio():
            raise ConfigError("SMW-C124", "warm_sync would block a running event loop", fix="await cache.warm(...)")
        return asyncio.run(warm(fn, calls, concurrency=concurrency))
    source, turn = iter(calls), threading.Lock()
    broken: list[BaseException] = []

    def work() -> None:
        try:
            while not broken:
                with turn:
                    args, kwargs = parted(next(source))
                loads: list[str] = []
                LOADS.set(loads)
                try:
                    fn(*args, **kwargs)
                except Exception as error:  # noqa: BLE001 - whatever the function raises is counted
                    count.raised(error)
                else:
                    count.done(loads)
        except StopIteration:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            broken.append(error)

    contexts = [contextvars.copy_context() for _ in range(concurrency)]
    threads = [in_background(partial(context.run, work), "smw-cache-warm") for context in contexts]
    if not any(threads):  # no more threads may be had
        contexts[0].run(work)
    for thread in filter(None, threads):
        thread.join()
    for error in broken:
        raise error
    return count.result()


def _checked(fn: Callable[..., Any], concurrency: object) -> _Count:
    cached, target = cached_on(fn)
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ConfigError("SMW-C124", "concurrency= takes a number from 1 on", seen=concurrency, fix="concurrency=8")
    return _Count(target.name, keeps_any=cached.function(target).keeps_any)


def several(calls: Any, name: str, code: str) -> Any:
    """Return the calls of a function that are asked for together.

    Args:
        calls: As given.
        name: Who asks.
        code: Of the error.

    Raises:
        ConfigError: They are the arguments of one call: a text would be read letter by letter, a mapping by its names.
    """
    is_one = isinstance(calls, str | bytes | bytearray | Mapping)
    if is_one or not isinstance(calls, Iterable | AsyncIterable):
        what, fix = f"{name}() takes several calls, each with its arguments", f'{name}(price, ["a", "b"])'
        raise ConfigError(code, what, seen=type(calls).__name__, fix=fix)
    return calls


def _awaited(fn: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(fn):
        return fn
    return lambda *args, **kwargs: in_thread(fn, *args, **kwargs)


async def _from(calls: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any]:
    if isinstance(calls, AsyncIterable):
        async for call in calls:
            yield call
    else:
        for call in calls:
            yield call


def parted(call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the named arguments of a call."""
    if isinstance(call, Mapping):
        return (), dict(call)
    return (tuple(call), {}) if isinstance(call, tuple | list) else ((call,), {})
