"""Runs one async chain in four ways: call, coroutine, generator, async generator; nothing else knows the difference."""

from __future__ import annotations

import functools
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import ExitStack
from typing import Any

from smw._kernel.call import Call, Kind, Target
from smw._kernel.raising import StoppedError
from smw.errors import SmwError

__all__ = ["Chain", "Slow", "base_of", "fuse", "runner_of"]

Chain = Callable[[Call], Coroutine[Any, Any, Any]]
Slow = Callable[[tuple[Any, ...], dict[str, Any]], Any]
_HANDED_OVER = object()


@types.coroutine
def _hand_over() -> Generator[Any, Any, Any]:
    """Suspend the chain at the place where the generator's own steps run."""
    return (yield _HANDED_OVER)


async def _call_sync(call: Call) -> Any:
    try:
        return call.target.fn(*call.args, **call.kwargs)
    except StopIteration as stop:
        raise StoppedError(stop) from None


async def _call_async(call: Call) -> Any:
    return await call.target.fn(*call.args, **call.kwargs)


async def _call_generator(_call: Call) -> Any:
    return await _hand_over()


def base_of(kind: Kind) -> Callable[[Call], Awaitable[Any]]:
    """Return the innermost link of a chain: the function itself."""
    return {Kind.SYNC: _call_sync, Kind.ASYNC: _call_async}.get(kind, _call_generator)


def _suspended() -> SmwError:
    return SmwError(
        "SMW-K101",
        "a synchronous call reached a backend that only works asynchronously",
        fix="give the backend a blocking client, or run it through smw's bridge",
    )


def _run_sync(chain: Chain, target: Target) -> Slow:
    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # One frame for all of this: a recursive function pays for each at every level.
        coroutine = chain(Call(target, args, kwargs))
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        except StoppedError as stopped:
            raise stopped.stop from None
        coroutine.close()
        raise _suspended()

    return run


def _stepping(call: Call, step: Callable[..., Any], *args: Any) -> Any:
    if not call.steps:
        return step(*args)
    with ExitStack() as stack:
        for factory in call.steps:
            stack.enter_context(factory())
        return step(*args)


def _finish(coroutine: Coroutine[Any, Any, Any], result: Any, error: BaseException | None) -> Any:
    """Let the chain end around a finished synchronous generator; it must not suspend again."""
    try:
        if error is None:
            coroutine.send(result)
        else:
            coroutine.throw(error)
    except StopIteration as stop:
        return stop.value
    raise _suspended()


def _drive_generator(chain: Chain, call: Call) -> Generator[Any, Any, Any]:
    coroutine = chain(call)
    try:
        try:
            if coroutine.send(None) is not _HANDED_OVER:
                raise _suspended()
        except StopIteration as stop:
            return stop.value
        inner = call.target.fn(*call.args, **call.kwargs)
        step: Callable[..., Any] = inner.__next__
        args: tuple[Any, ...] = ()
        try:
            while True:
                item = _stepping(call, step, *args)
                try:
                    sent = yield item
                except GeneratorExit:
                    _stepping(call, inner.close)
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever was thrown in belongs to the generator
                    step, args = inner.throw, (error,)
                else:
                    step, args = (inner.__next__, ()) if sent is None else (inner.send, (sent,))
        except StopIteration as stop:
            return _finish(coroutine, stop.value, None)
        except BaseException as error:  # noqa: BLE001 - the chain decides what becomes of it
            return _finish(coroutine, None, error)
    finally:
        coroutine.close()


@types.coroutine
def _advance(coroutine: Coroutine[Any, Any, Any], error: BaseException | None = None) -> Generator[Any, Any, bool]:
    """Run the chain under the event loop until it hands over (True) or ends (False)."""
    try:
        item = coroutine.send(None) if error is None else coroutine.throw(error)
        while item is not _HANDED_OVER:
            try:
                got = yield item
            except BaseException as thrown:  # noqa: BLE001 - cancellation is the chain's to see
                item = coroutine.throw(thrown)
            else:
                item = coroutine.send(got)
    except StopIteration:
        return False
    return True


@types.coroutine
def _stepping_async(call: Call, awaitable: Awaitable[Any]) -> Generator[Any, Any, Any]:
    """Await one step of an async generator with the call's step contexts entered only while it really runs."""
    steps = awaitable.__await__()
    got: Any = None
    error: BaseException | None = None
    while True:
        try:
            if error is None:
                item = _stepping(call, steps.send if hasattr(steps, "send") else _next_of(steps), got)
            else:
                item = _stepping(call, steps.throw, error)
        except StopIteration as stop:
            return stop.value
        error = None
        try:
            got = yield item
        except BaseException as thrown:  # noqa: BLE001 - cancellation is the generator's to see
            error = thrown


def _taking(call: Call, step: Awaitable[Any]) -> Awaitable[Any]:
    return _stepping_async(call, step) if call.steps else step


def _next_of(steps: Any) -> Callable[[Any], Any]:
    return lambda _got: next(steps)


async def _drive_async_generator(chain: Chain, call: Call) -> AsyncGenerator[Any, Any]:
    coroutine = chain(call)
    try:
        if not await _advance(coroutine):
            return
        inner = call.target.fn(*call.args, **call.kwargs)
        step = inner.__anext__()
        try:
            while True:
                item = await _taking(call, step)
                try:
                    sent = yield item
                except GeneratorExit:
                    await _taking(call, inner.aclose())
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever was thrown in belongs to the generator
                    step = inner.athrow(error)
                else:
                    step = inner.__anext__() if sent is None else inner.asend(sent)
        except StopAsyncIteration:
            await _advance(coroutine)
        except BaseException as error:  # noqa: BLE001 - the chain decides what becomes of it
            await _advance(coroutine, error)
    finally:
        coroutine.close()


def runner_of(chain: Chain, target: Target) -> Slow:
    """Return what runs a chain for one call's arguments: gives the value, the coroutine or the generator."""
    if target.kind is Kind.SYNC:
        return _run_sync(chain, target)
    if target.kind is Kind.ASYNC:
        return lambda args, kwargs: chain(Call(target, args, kwargs))
    drive: Callable[[Chain, Call], Any] = _drive_generator if target.kind is Kind.GEN else _drive_async_generator
    return lambda args, kwargs: drive(chain, Call(target, args, kwargs))


def fuse(arounds: tuple[Callable[..., Awaitable[Any]], ...], kind: Kind) -> Chain:
    """Compose the advices' steps, outermost first, around the function."""
    link: Callable[..., Any] = base_of(kind)
    for around in reversed(arounds):
        link = functools.partial(_step, around, link)
    return link


def _step(around: Callable[..., Any], link: Callable[..., Any], call: Call) -> Any:
    return around(call, functools.partial(link, call))
