"""A decorated function looks and behaves like itself, whatever kind it is."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest

from smw._kernel.chain import advise, stack_of
from tests.unit.kernel.advices import Idle, Named, record

LOG: list[Any] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    LOG.clear()


@record("a", LOG)
def plain(x: int, /, y: int = 2, *rest: int, z: int = 3, **more: int) -> tuple[Any, ...]:
    """Doc of plain."""
    return x, y, rest, z, more


@record("a", LOG)
async def awaited(x: int) -> int:
    """Doc of awaited."""
    await asyncio.sleep(0)
    return x


@record("a", LOG)
def counting(n: int) -> Generator[int, str, list[str]]:
    """Doc of counting."""
    got: list[str] = []
    for i in range(n):
        got.append((yield i))  # noqa: PERF401 - yield cannot stand in a comprehension
    return got


@record("a", LOG)
async def acounting(n: int) -> AsyncGenerator[int, None]:
    """Doc of acounting."""
    for i in range(n):
        yield i


class Shop:
    """Methods of each sort."""

    @record("a", LOG)
    def method(self, x: int) -> tuple[Any, int]:
        """Doc of method."""
        return self, x

    @record("a", LOG)
    async def amethod(self, x: int) -> tuple[Any, int]:
        """Doc of amethod."""
        return self, x

    @record("a", LOG)
    def gmethod(self) -> Generator[Any, None, None]:
        """Doc of gmethod."""
        yield self

    @record("a", LOG)
    @classmethod
    def above_class(cls, x: int) -> tuple[Any, int]:
        """Doc of above_class."""
        return cls, x

    @classmethod
    @record("a", LOG)
    def below_class(cls, x: int) -> tuple[Any, int]:
        """Doc of below_class."""
        return cls, x

    @record("a", LOG)
    @staticmethod
    def above_static(x: int) -> int:
        """Doc of above_static."""
        return x

    @staticmethod
    @record("a", LOG)
    def below_static(x: int) -> int:
        """Doc of below_static."""
        return x


class Callme:
    """An object that can be called."""

    colour = "red"

    def __call__(self, x: int) -> int:
        """Return x."""
        return x


def test_a_plain_function_gets_the_arguments_that_it_was_given() -> None:
    """Every sort of parameter reaches the function and the advice as bound."""
    assert plain(1, 5, 6, 7, z=8, w=9) == (1, 5, (6, 7), 8, {"w": 9})
    assert LOG[0] == ("a", "in", {"x": 1, "y": 5, "rest": (6, 7), "z": 8, "more": {"w": 9}})
    assert plain(1) == (1, 2, (), 3, {})


def test_wrong_arguments_raise_as_the_function_would() -> None:
    """A missing argument is a TypeError that names the function."""
    with pytest.raises(TypeError, match=r"plain\(\) missing 1 required positional argument: 'x'"):
        plain()  # type: ignore[call-arg]


async def test_a_coroutine_function_stays_one() -> None:
    """Awaiting returns the result, and inspect agrees about the kind."""
    assert await awaited(3) == 3
    assert inspect.iscoroutinefunction(awaited)
    assert LOG[-1] == ("a", "out", 3)


def test_a_generator_keeps_send_and_return() -> None:
    """Values sent in arrive, and the return value comes back through yield from."""

    def outer() -> Generator[int, str, list[str]]:
        return (yield from counting(2))

    running = outer()
    assert next(running) == 0
    assert running.send("a") == 1
    with pytest.raises(StopIteration) as stopped:
        running.send("b")
    assert stopped.value.value == ["a", "b"]
    assert inspect.isgeneratorfunction(counting)
    assert LOG[-1] == ("a", "out", ["a", "b"])


def test_a_generator_sees_thrown_exceptions_and_close() -> None:
    """Throw reaches the generator; close ends it and the advice sees GeneratorExit."""
    seen: list[str] = []

    @record("g", LOG)
    def careful() -> Generator[int, None, None]:
        try:
            yield 1
        except KeyError:
            seen.append("key")
            yield 2
        finally:
            seen.append("end")

    running = careful()
    assert next(running) == 1
    assert running.throw(KeyError("x")) == 2
    running.close()
    assert seen == ["key", "end"]
    assert LOG[-1] == ("g", "GeneratorExit")


async def test_an_async_generator_keeps_asend_athrow_and_aclose() -> None:
    """The async twin of send, throw and close."""
    seen: list[Any] = []

    @record("g", LOG)
    async def careful() -> AsyncGenerator[int, str]:
        try:
            seen.append((yield 1))
            yield 2
        except KeyError:
            seen.append("key")
            yield 3
        finally:
            seen.append("end")

    assert inspect.isasyncgenfunction(careful)
    running = careful()
    assert await running.__anext__() == 1
    assert await running.asend("sent") == 2
    assert await running.athrow(KeyError("x")) == 3
    await running.aclose()
    assert seen == ["sent", "key", "end"]
    assert LOG[-1] == ("g", "GeneratorExit")
    assert [i async for i in acounting(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "first"),
    [("method", "self"), ("above_class", "cls"), ("below_class", "cls")],
)
def test_methods_bind(name: str, first: str) -> None:
    """Methods and class methods get their instance or class, decorator above or below."""
    shop = Shop()
    expected = shop if first == "self" else Shop
    assert getattr(shop, name)(1) == (expected, 1)
    if first == "cls":
        assert getattr(Shop, name)(1) == (Shop, 1)
    assert getattr(shop, name).__doc__ == f"Doc of {name}."


@pytest.mark.parametrize("name", ["above_static", "below_static"])
def test_static_methods_do_not_bind(name: str) -> None:
    """Static methods get only what they were given."""
    assert getattr(Shop(), name)(4) == 4
    assert getattr(Shop, name)(4) == 4


async def test_coroutine_and_generator_methods_keep_their_kind() -> None:
    """Bound methods still tell inspect what they are."""
    shop = Shop()
    assert inspect.iscoroutinefunction(shop.amethod)
    assert inspect.isgeneratorfunction(shop.gmethod)
    assert await shop.amethod(1) == (shop, 1)
    assert list(shop.gmethod()) == [shop]


def test_a_callable_object_keeps_its_attributes() -> None:
    """What stands for a callable object is still one, attributes included."""
    decorated = record("o", LOG)(Callme())
    assert decorated(2) == 2
    assert decorated.colour == "red"
    assert isinstance(decorated, Callme)


def test_a_partial_is_called_with_its_arguments() -> None:
    """A partial keeps its preset arguments, sync and async."""
    decorated = record("p", LOG)(functools.partial(plain, 9))
    assert decorated(z=1) == (9, 2, (), 1, {})
    assert asyncio.run(record("p", LOG)(functools.partial(awaited.__wrapped__, 4))()) == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("fn", [plain, awaited, counting, acounting])
def test_identity_is_preserved(fn: Any) -> None:
    """Signature, name, doc, module and annotations are the function's own."""
    original = fn.__wrapped__
    assert inspect.signature(fn) == inspect.signature(original)
    for attribute in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(fn, attribute) == getattr(original, attribute)
    assert inspect.isfunction(fn)


@pytest.mark.parametrize("fn", [plain, awaited, counting, acounting])
def test_pickle_and_copy_go_by_reference(fn: Any) -> None:
    """Pickling leads back to the same object, and copying returns it."""
    assert pickle.loads(pickle.dumps(fn)) is fn
    assert copy.deepcopy(fn) is fn
    assert copy.copy(fn) is fn


def test_a_local_generator_refuses_to_pickle_with_a_remedy() -> None:
    """What cannot be found by name says so instead of pickling something else."""

    @record("l", LOG)
    def local() -> Generator[int, None, None]:
        yield 1

    with pytest.raises(pickle.PicklingError, match="define it at module level"):
        pickle.dumps(local)


def test_a_foreign_wrapper_is_not_taken_for_ours() -> None:
    """functools.wraps copies attributes; the foreign decorator between two of ours still runs."""
    calls: list[str] = []

    def foreign(fn: Any) -> Any:
        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            calls.append("foreign")
            return fn(*args, **kwargs)

        return wrapper

    @record("outer", LOG)
    @foreign
    @record("inner", LOG)
    def fn(x: int) -> int:
        return x

    assert fn(1) == 1
    assert calls == ["foreign"]
    assert [entry[0] for entry in LOG] == ["outer", "inner", "inner", "outer"]


def test_stacking_merges_into_one_wrapper() -> None:
    """Two decorators make one stack around the original function, outermost first."""

    @record("outer", LOG)
    @record("inner", LOG)
    def fn(x: int) -> int:
        return x

    stack = stack_of(fn)
    assert stack is not None
    assert [advice.label for advice in stack.advices] == ["outer", "inner"]  # type: ignore[attr-defined]
    assert stack_of(stack.target.fn) is None
    assert fn(2) == 2
    assert [entry[:2] for entry in LOG] == [("outer", "in"), ("inner", "in"), ("inner", "out"), ("outer", "out")]


def test_advices_without_work_are_left_out() -> None:
    """A function whose advices are all idle is called directly."""

    @advise(Idle())
    @advise(Named("cached"))
    def fn(x: int) -> int:
        return x

    assert fn(5) == 5


def test_recursion_runs_the_chain_at_each_level() -> None:
    """A decorated function may call itself."""

    @record("r", LOG)
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    assert factorial(4) == 24
    assert sum(1 for entry in LOG if entry[1] == "in") == 5
