"""Small advices that the kernel's tests stack on functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from smw._kernel.call import Call, Target
from smw._kernel.chain import Advice, Bound, Proceed, advise
from smw._kernel.compiler import Gear

F = TypeVar("F", bound=Callable[..., Any])


class Recorder(Advice):
    """Writes what passes by into a list."""

    name = "track_business_metric"

    def __init__(self, label: str, log: list[Any]) -> None:
        self.label = label
        self.log = log
        self.binds = 0

    def bind(self, target: Target) -> Bound:
        """Bind to nothing but the log."""
        self.binds += 1

        async def around(call: Call, proceed: Proceed) -> Any:
            self.log.append((self.label, "in", dict(call.arguments)))
            try:
                result = await proceed()
            except BaseException as error:
                self.log.append((self.label, type(error).__name__))
                raise
            self.log.append((self.label, "out", result))
            return result

        return Bound(around)


class Idle(Advice):
    """Has nothing to do."""

    name = "trace"

    def bind(self, target: Target) -> None:
        """Ask to be left out of the chain."""


class Named(Advice):
    """Carries a name and tags for the order rules."""

    def __init__(self, name: str, *tags: str) -> None:
        self.name = name  # type: ignore[misc]
        self.tags = frozenset(tags)

    def bind(self, target: Target) -> None:
        """Do nothing."""


class Suspends(Advice):
    """Suspends, which a synchronous call cannot."""

    name = "trace"

    def bind(self, target: Target) -> Bound:
        """Bind to a step that sleeps."""

        async def around(_call: Call, proceed: Proceed) -> Any:
            import asyncio

            await asyncio.sleep(0)
            return await proceed()

        return Bound(around)


class Hit:
    """An entry of the fast gear."""

    def __init__(self, value: Any, deadline: float, thaw: Callable[[Any], Any] | None = None) -> None:
        self.value = value
        self.deadline = deadline
        self.touched = 0
        self.thaw = thaw


class Counter:
    """Counts hits."""

    hits = 0


class Geared(Advice):
    """Answers from a table."""

    name = "cached"
    geared = True

    def __init__(self, now: Callable[[], float]) -> None:
        self.table: dict[Any, Hit] = {}
        self.counter = Counter()
        self.now = now
        self.slow_calls = 0

    def bind(self, target: Target) -> Bound:
        """Lend the table to the entry."""

        async def around(_call: Call, proceed: Callable[[], Awaitable[Any]]) -> Any:
            self.slow_calls += 1
            return await proceed()

        return Bound(around, Gear(self.table.get, self.now, self.counter))


def record(label: str, log: list[Any]) -> Callable[[F], F]:
    """Decorate with a `Recorder`."""
    return advise(Recorder(label, log))
