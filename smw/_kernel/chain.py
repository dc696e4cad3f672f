"""The ordered chain of one decorated function: advices, late binding, merging of stacks; knows no particular advice."""

from __future__ import annotations

import functools
import inspect
import types
import warnings
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

from smw._kernel import current
from smw._kernel.call import Call, Kind, Target
from smw._kernel.compiler import Gear, compile_entry
from smw._kernel.drive import fuse, runner_of
from smw._kernel.order import StackingWarning, check_order
from smw._kernel.process import ForkLock
from smw._kernel.reference import resolve
from smw.errors import DecorationError

__all__ = ["Advice", "Bound", "Proceed", "Stack", "advise", "stack_of", "stacks_in"]

F = TypeVar("F", bound=Callable[..., Any])
Proceed = Callable[[], Awaitable[Any]]
_NO_ANSWER: Callable[[Any], None] = {}.get
_binding = ForkLock()
_DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Bound:
    """An advice that has found its part of the runtime.

    Args:
        around: ``async def around(call, proceed)``; awaits ``proceed()`` for the rest of the chain.
        gear: Lets the compiled entry answer without the chain, as long as no advice above has work to do.
    """

    around: Callable[[Call, Proceed], Awaitable[Any]]
    gear: Gear | None = None


class Advice(ABC):
    """What one decorator adds to a function."""

    name: ClassVar[str]
    geared: ClassVar[bool] = False
    tags: frozenset[str] = frozenset()

    def check(self, target: Target) -> None:  # noqa: B027 - most advices serve every function
        """Raise `DecorationError` when `target` is nothing this decorator can serve."""

    def decorated(self, fn: Any) -> None:  # noqa: B027 - only entry points register
        """Take note of the finished decorated function."""

    @abstractmethod
    def bind(self, target: Target) -> Bound | None:
        """Find the part of the runtime that does the work; None when there is nothing to do."""

    def describe(self) -> str:
        """Return one line for ``smw.explain``."""
        return f"@{self.name}"


class Stack:
    """The advices of one function and, once bound, the chain that runs them."""

    __slots__ = ("__weakref__", "_shift", "advices", "bound", "entry", "target")

    def __init__(self, target: Target, advices: tuple[Advice, ...]) -> None:
        self.target = target
        self.advices = advices
        self.bound: tuple[Bound | None, ...] | None = None
        self.entry, self._shift = compile_entry(
            target.fn,
            target.signature if target.is_direct else None,
            slow=self._first,
            is_async=target.kind is Kind.ASYNC,
            is_method=target.is_method,
            geared=any(advice.geared for advice in advices),
        )
        current.rebind(self)

    def _first(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.bind()(args, kwargs)

    def bind(self) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        """Bind every advice to the current runtime and fuse those that have work to do.

        The lock covers the swap alone: finding the parts may open a runtime, which must not wait for who closes one.
        """
        while True:
            generation = current.generation()
            bound = tuple(advice.bind(self.target) for advice in self.advices)
            active = tuple(step for step in bound if step is not None)
            slow = self._runner(active)
            gear = active[0].gear if active else None
            with _binding:
                if generation != current.generation():
                    continue
                if gear is None:
                    self._shift(_NO_ANSWER, None, None, slow)
                else:
                    self._shift(gear.get, gear.now, gear.counter, slow)
                self.bound = bound
                return slow

    def unbind(self) -> None:
        """Forget the runtime; the next call looks it up again."""
        with _binding:
            self.bound = None
            self._shift(_NO_ANSWER, None, None, self._first)

    def __reduce__(self) -> Any:
        """Travel by name: what a worker runs is its own copy of the function."""
        return _stack_named, (self.target.name,)

    def _runner(self, active: tuple[Bound, ...]) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        target, fn = self.target, self.target.fn
        if not active:
            return lambda args, kwargs: fn(*args, **kwargs)
        chain = fuse(tuple(step.around for step in active), target.kind)
        return runner_of(chain, target)


def stack_of(fn: Any) -> Stack | None:
    """Return the stack of a decorated function, method or class/static method, or None."""
    # By exact type: what stands for a bound method looks like one.
    if isinstance(fn, classmethod | staticmethod) or type(fn) is types.MethodType:
        fn = fn.__func__
    if type(fn) is types.FunctionType:
        # functools.wraps copies attributes, so a foreign wrapper may carry the attribute of what it wraps.
        stack = fn.__dict__.get("__smw_stack__")
        return stack if stack is not None and stack.entry is fn else None
    return getattr(fn, "_self_stack", None) if type(fn).__module__ == "smw._kernel.proxy" else None


def stacks_in(fn: Any) -> Iterator[Stack]:
    """Yield every stack on `fn`: its own, then those hidden below foreign decorators and in what it wraps."""
    own = stack_of(fn)
    if own is not None:
        yield own
        fn = own.target.fn
    yield from _inner_stacks(fn)


def _stack_named(name: str) -> Stack | None:
    return stack_of(resolve(name))


def _inner_stacks(fn: Any) -> Iterator[Stack]:
    """Yield the stacks hidden in `fn`: below foreign decorators, in partials, bound methods and callable objects."""
    for _ in range(_DEEPEST):
        fn = _inside(fn)
        if fn is None:
            return
        stack = stack_of(fn)
        if stack is not None:
            yield stack
            fn = stack.target.fn


def _inside(fn: Any) -> Any:
    if isinstance(fn, functools.partial):
        return fn.func
    if isinstance(fn, types.MethodType):
        return fn.__func__
    wrapped = getattr(fn, "__wrapped__", None)
    if wrapped is None and not inspect.isroutine(fn):
        return getattr(type(fn), "__call__", None)  # noqa: B004 - the function is wanted, not whether there is one
    return wrapped


def _refuse(advice: Advice, fn: Any) -> None:
    what = f"@{advice.name}"
    if inspect.isclass(fn):
        message = f"{what} was put on the class {fn.__qualname__}"
        raise DecorationError("SMW-K120", message, fix="decorate the methods that should have it")
    if isinstance(fn, property):
        message = f"{what} was put above @property"
        raise DecorationError("SMW-K120", message, fix=f"put @property above {what}")
    if not callable(fn):
        message = f"{what} was put on something that cannot be called"
        raise DecorationError("SMW-K120", message, seen=type(fn).__name__, fix="decorate a function")


def _warn_contextmanager(advice: Advice, fn: Any) -> None:
    code = getattr(fn, "__code__", None)
    if code is not None and code.co_filename.endswith("contextlib.py"):
        message = f"@{advice.name} stands above @contextmanager and covers only the making of it, not the block"
        warnings.warn(message, StackingWarning, stacklevel=4)


def advise(advice: Advice) -> Callable[[F], F]:
    """Turn an advice into a decorator that keeps the decorated type and merges into an existing stack."""

    def decorate(fn: F, /) -> F:
        if isinstance(fn, classmethod | staticmethod):
            return cast("F", type(fn)(_wrap(advice, fn.__func__)))
        return cast("F", _wrap(advice, fn))

    return decorate


def _wrap(advice: Advice, fn: Any) -> Any:
    # A bound method is called without its instance: what stands on its function cannot be merged into.
    below = None if type(fn) is types.MethodType else stack_of(fn)
    if below is not None:
        check_order(advice, below.advices, below.target.qualname)
        target, advices = below.target, (advice, *below.advices)
    else:
        _refuse(advice, fn)
        _warn_contextmanager(advice, fn)
        target, advices = Target(fn), (advice,)
    for hidden in _inner_stacks(target.fn):
        check_order(advice, hidden.advices, hidden.target.qualname, merged=False)
    advice.check(target)
    decorated = _replacement(Stack(target, advices))
    advice.decorated(decorated)
    return decorated


def _replacement(stack: Stack) -> Any:
    """Return what stands in the function's place: its compiled entry, or a proxy where that would not look like it."""
    fn, entry = stack.target.fn, stack.entry
    if type(fn) is types.FunctionType and stack.target.kind in (Kind.SYNC, Kind.ASYNC):
        functools.update_wrapper(entry, fn)
        entry.__smw_stack__ = stack  # type: ignore[attr-defined]
        return entry
    from smw._kernel.proxy import proxy

    return proxy(stack)
