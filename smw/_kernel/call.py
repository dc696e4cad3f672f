"""What is decorated and one call of it: kind, name, bound arguments; decides nothing about what is done around it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, Literal

from smw._kernel.compiler import compile_binder, compile_gear_key
from smw._kernel.reference import module_of

__all__ = ["Call", "Kind", "Mode", "Target", "kind_of"]

Mode = Literal["sync", "async"]
Step = Callable[[], AbstractContextManager[Any]]


class Kind(Enum):
    """How a function hands out its result."""

    SYNC = "function"
    ASYNC = "coroutine function"
    GEN = "generator"
    ASYNC_GEN = "async generator"


def kind_of(fn: Any) -> Kind:
    """Tell how `fn` hands out its result, looking through partials, bound methods and callable objects."""
    while True:
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif inspect.ismethod(fn):
            fn = fn.__func__
        else:
            break
    if not inspect.isroutine(fn):
        fn = type(fn).__call__
    if inspect.isasyncgenfunction(fn):
        return Kind.ASYNC_GEN
    if inspect.iscoroutinefunction(fn):
        return Kind.ASYNC
    if inspect.isgeneratorfunction(fn):
        return Kind.GEN
    return Kind.SYNC


def _signature(fn: Any, *, follow_wrapped: bool = True) -> inspect.Signature | None:
    try:
        return inspect.signature(fn, follow_wrapped=follow_wrapped)
    except (ValueError, TypeError):
        return None


class Target:
    """Static facts of one decorated function, computed once when decorating.

    Attributes:
        fn: The function itself, undecorated.
        kind: How it hands out its result.
        name: ``module:qualname``, the identity in keys, metrics and logs; the module as others import it.
        qualname: The qualified name alone.
        signature: Its signature; None where Python cannot tell (some builtins).
        is_direct: The callable takes just these parameters. False below a foreign decorator that takes anything, whose
            own idea of the arguments is not known: it may add some or take some away.
        parameters: Names of its parameters in order.
        is_method: The first parameter is ``self`` of a class body, so the instance belongs to the identity of a call.
        mode: Whether I/O around it blocks (``sync``) or is awaited (``async``).
    """

    __slots__ = (
        "__dict__", "__weakref__", "fn", "is_direct", "is_method", "kind", "mode", "name", "parameters", "qualname",
        "signature",
    )  # fmt: skip

    def __init__(self, fn: Any) -> None:
        base = fn
        while isinstance(base, functools.partial):
            base = base.func
        self.fn = fn
        self.kind = kind_of(fn)
        self.mode: Mode = "async" if self.kind in (Kind.ASYNC, Kind.ASYNC_GEN) else "sync"
        self.qualname: str = getattr(base, "__qualname__", None) or type(base).__qualname__
        self.name = f"{module_of(base)}:{self.qualname}"
        self.signature = _signature(fn)
        self.is_direct = self.signature == _signature(fn, follow_wrapped=False)
        self.parameters = tuple(self.signature.parameters) if self.signature else ("args", "kwargs")
        owner = self.qualname.rpartition(".")[0]
        self.is_method = bool(owner) and not owner.endswith("<locals>") and self.parameters[:1] == ("self",)

    @functools.cached_property
    def _binder(self) -> Callable[..., dict[str, object]]:
        return compile_binder(self.qualname, self.signature)

    @functools.cached_property
    def _own_binder(self) -> Callable[..., dict[str, object]]:
        return compile_binder(self.qualname, _signature(self.fn, follow_wrapped=False))

    @functools.cached_property
    def gear_key(self) -> Callable[..., object] | None:
        """Compiled function from a call's arguments to its fast-gear key, or `UNKEYED` for arguments of other types."""
        return compile_gear_key(self.signature, is_method=self.is_method) if self.is_direct else None

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, object]:
        """Return parameter name → argument with defaults applied; ``*args`` as a tuple, ``**kwargs`` as a dict.

        Arguments that fit a foreign decorator's callable, but not the function below it, go by the callable's names.

        Raises:
            TypeError: As Python raises it for arguments that do not fit.
        """
        try:
            return self._binder(*args, **kwargs)
        except TypeError:
            if self.is_direct:
                raise
            return self._own_binder(*args, **kwargs)


class Call:
    """One call in flight.

    Attributes:
        target: What is called.
        args: Positional arguments; the instance first for methods.
        kwargs: Keyword arguments.
        steps: For generators: context managers to enter around each step.
    """

    __slots__ = ("_arguments", "_notes", "args", "kwargs", "steps", "target")

    def __init__(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.target = target
        self.args = args
        self.kwargs = kwargs
        self.steps: tuple[Step, ...] = ()
        self._arguments: dict[str, object] | None = None
        self._notes: dict[str, Any] | None = None

    @property
    def mode(self) -> Mode:
        """Whether I/O of this call blocks or is awaited."""
        return self.target.mode

    @property
    def arguments(self) -> dict[str, object]:
        """Parameter name → argument, bound on first use."""
        if self._arguments is None:
            self._arguments = self.target.bind(self.args, self.kwargs)
        return self._arguments

    @property
    def notes(self) -> dict[str, Any]:
        """Scratch shared by the advices of this call."""
        if self._notes is None:
            self._notes = {}
        return self._notes

    def each_step(self, factory: Step) -> None:
        """Enter `factory()` around each step of the generator that this call returns."""
        self.steps = (*self.steps, factory)
