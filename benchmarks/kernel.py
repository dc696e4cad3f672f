"""What stacking costs: eight smw decorators that do nothing beside eight nested wrapt decorators that do nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import wrapt

from benchmarks._table import Row, nanoseconds
from smw._kernel.chain import Advice, Bound, advise

if TYPE_CHECKING:
    from collections.abc import Callable

    from smw._kernel.call import Call, Target
    from smw._kernel.chain import Proceed

NAME = "kernel"
DEPTH = 8


class Nothing(Advice):
    """An advice with a step in the chain and no work in it."""

    name: ClassVar[str] = "nothing"

    def bind(self, _target: Target) -> Bound:
        """Take part in the chain, so that its full cost shows."""
        return Bound(self._around)

    async def _around(self, _call: Call, proceed: Proceed) -> Any:
        return await proceed()


class Idle(Nothing):
    """An advice that has nothing to do under the current settings."""

    name: ClassVar[str] = "idle"

    def bind(self, _target: Target) -> None:
        """Drop out of the chain."""


@wrapt.decorator
def passing(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    """Pass a call on."""
    return wrapped(*args, **kwargs)


def _closure(fn: Callable[..., Any]) -> Callable[..., Any]:
    def inner(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return inner


def plain(number: int) -> int:
    """Return the number."""
    return number


async def awaited(number: int) -> int:
    """Return the number."""
    return number


def _stacked(fn: Callable[..., Any], decorate: Callable[..., Any]) -> Callable[..., Any]:
    for _ in range(DEPTH):
        fn = decorate(fn)
    return fn


def _sync(fn: Callable[[int], Any], number: int) -> float:
    def calls(count: int) -> None:
        for _ in range(count):
            fn(7)

    return nanoseconds(calls, number=number)


def _async(fn: Callable[[int], Any], number: int) -> float:
    async def many(count: int) -> None:
        for _ in range(count):
            await fn(7)

    with asyncio.Runner() as runner:
        return nanoseconds(lambda count: runner.run(many(count)), number=number)


def _compare(task: str, kind: Callable[..., float], fn: Callable[..., Any], number: int) -> list[Row]:
    systems: dict[str, Callable[..., Any]] = {
        "undecorated": fn,
        "smw, 8 decorators": _stacked(fn, advise(Nothing())),
        "smw, 8 idle decorators": _stacked(fn, advise(Idle())),
        "8 closures": _stacked(fn, _closure),
        "8 wrapt decorators": _stacked(fn, passing),
    }
    taken = {system: kind(decorated, number) / 1000 for system, decorated in systems.items()}
    peer = taken["8 wrapt decorators"]
    targets = {"smw, 8 decorators": "<= 0.2"} if kind is _sync else {}
    return [Row(task, system, value, "us", value / peer, targets.get(system)) for system, value in taken.items()]


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - every benchmark has this signature
    """Measure both kinds of functions."""
    number = 2_000 if quick else 50_000
    return [
        *_compare("eight stacked decorators, sync", _sync, plain, number),
        *_compare("eight stacked decorators, async", _async, awaited, number),
    ]
