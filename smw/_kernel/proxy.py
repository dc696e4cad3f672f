"""The proxy that stands for what a compiled function cannot: generators, callable objects, partials; only looks."""

from __future__ import annotations

import pickle
import types
from typing import TYPE_CHECKING, Any

import wrapt

from smw._kernel.reference import resolve

if TYPE_CHECKING:
    from smw._kernel.chain import Stack

__all__ = ["Proxy", "proxy"]


class Proxy(wrapt.ObjectProxy):  # type: ignore[misc, type-arg, unused-ignore]
    """A decorated callable whose every attribute is the callable's own.

    A subclass per callable carries the compiled ``__call__``.
    """

    def __copy__(self) -> Proxy:
        """Return itself, as functions do."""
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Proxy:
        """Return itself, as functions do."""
        return self

    def __reduce_ex__(self, _protocol: Any) -> Any:
        """Pickle by module and qualified name, as functions do."""
        return self.__reduce__()

    def __reduce__(self) -> Any:
        """Pickle by module and qualified name, as functions do.

        Raises:
            pickle.PicklingError: That name does not lead back here.
        """
        name = self._self_stack.target.name
        if resolve(name) is not self:
            message = f"cannot pickle {name}: that name is not this decorated function; define it at module level"
            raise pickle.PicklingError(message)
        return resolve, (name,)

    def __repr__(self) -> str:
        """Name the function and the decorators on it."""
        names = ", ".join(advice.name for advice in self._self_stack.advices)
        return f"<{self._self_stack.target.name} with {names}>"


def _bind(self: Any, instance: Any, _owner: Any = None) -> Any:
    return self if instance is None else types.MethodType(self, instance)


def proxy(stack: Stack) -> Proxy:
    """Return the proxy of `stack.target.fn` whose calls run `stack`."""
    members: dict[str, Any] = {"__call__": staticmethod(stack.entry), "__module__": __name__}
    if hasattr(type(stack.target.fn), "__get__") and not isinstance(stack.target.fn, types.MethodType):
        members["__get__"] = _bind
    made: Proxy = type("Proxy", (Proxy,), members)(stack.target.fn)
    made._self_stack = stack  # type: ignore[attr-defined]  # noqa: SLF001 - wrapt keeps a proxy's own state under this prefix
    return made
