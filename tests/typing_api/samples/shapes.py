"""What a decorator must leave as it is; the test replaces DECORATOR by each of the eight in turn.

A line that ends in `# same` reveals what the line before reveals; a line that ends in `# error` is refused.
"""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from smw import cache, monitor, pipeline, security

T = TypeVar("T")
P = ParamSpec("P")
USED = (cache, monitor, pipeline, security)


def sync(x: int, /, y: str = "a", *rest: bytes, flag: bool = False, **more: float) -> float:
    return float(x)


async def coroutine(x: int, *, y: str = "a") -> list[str]:
    return [y] * x


def generator(n: int) -> Iterator[int]:
    yield n


async def async_generator(n: int) -> AsyncIterator[int]:
    yield n


def generic(item: T, others: list[T]) -> dict[str, T]:
    return {"item": item, "other": others[0]}


@overload
def overloaded(x: int) -> int: ...
@overload
def overloaded(x: str) -> str: ...
def overloaded(x: int | str) -> int | str:
    return x


def higher(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return fn(*args, **kwargs)


class Plain(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    def method(self, x: int, *, y: str = "a") -> T:
        return self.value

    async def coroutine(self, x: int) -> T:
        return self.value

    @classmethod
    def build(cls, value: T) -> "Plain[T]":
        return cls(value)

    @staticmethod
    def static(x: int) -> str:
        return str(x)

    @property
    def size(self) -> int:
        return 1

    def __call__(self, x: int) -> str:
        return str(x)


class Decorated(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    @DECORATOR
    def method(self, x: int, *, y: str = "a") -> T:
        return self.value

    @DECORATOR
    async def coroutine(self, x: int) -> T:
        return self.value

    @classmethod
    @DECORATOR
    def build(cls, value: T) -> "Decorated[T]":
        return cls(value)

    @staticmethod
    @DECORATOR
    def static(x: int) -> str:
        return str(x)

    @property
    @DECORATOR
    def size(self) -> int:
        return 1

    @DECORATOR
    def __call__(self, x: int) -> str:
        return str(x)


class Loader(Protocol):
    def __call__(self, x: int, *, y: str = ...) -> Any: ...


@DECORATOR
def above(x: int, *, y: str = "a") -> float:
    return float(x)


@DECORATOR
async def above_coroutine(x: int, *, y: str = "a") -> list[str]:
    return [y] * x


reveal_type(sync)
reveal_type(DECORATOR(sync))  # same
reveal_type(coroutine)
reveal_type(DECORATOR(coroutine))  # same
reveal_type(coroutine)
reveal_type(above_coroutine)  # same
reveal_type(generator)
reveal_type(DECORATOR(generator))  # same
reveal_type(async_generator)
reveal_type(DECORATOR(async_generator))  # same
reveal_type(generic)
reveal_type(DECORATOR(generic))  # same
reveal_type(overloaded)
reveal_type(DECORATOR(overloaded))  # same
reveal_type(higher)
reveal_type(DECORATOR(higher))  # same
reveal_type(Plain("v").method)
reveal_type(Decorated("v").method)  # same
reveal_type(Plain("v").coroutine)
reveal_type(Decorated("v").coroutine)  # same
reveal_type(Plain.static)
reveal_type(Decorated.static)  # same
reveal_type(Plain("v").size)
reveal_type(Decorated("v").size)  # same
reveal_type(Plain("v")(1))
reveal_type(Decorated("v")(1))  # same
reveal_type(Plain.build("v").method(1))
reveal_type(Decorated.build("v").method(1))  # same
reveal_type(DECORATOR(functools.partial(sync, 1))())
reveal_type(functools.partial(sync, 1)())  # same

loader: Loader = above
above(1, y="b")
above("1")  # error
above(1, z=2)  # error
above_coroutine()  # error
Decorated("v").method()  # error
DECORATOR(3)  # error
