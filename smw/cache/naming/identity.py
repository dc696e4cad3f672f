"""Says which function a result belongs to when its name alone does not tell; knows no call and no level."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

from smw._kernel.chain import stacks_in
from smw._kernel.reference import found
from smw.cache.naming.arguments import UnkeyableError, encode

if TYPE_CHECKING:
    from smw._kernel.call import Target

__all__ = ["identity_of"]


def identity_of(target: Target) -> bytes | None:
    """Return what stands in keys besides the name of a function, or None where no key can tell it from another.

    A function that its name leads back to needs nothing more. One made inside another function is told by its code,
    its defaults and what it closes over; a partial, bound method or callable object by what it holds. Where that has
    no structure that could be written, results must not reach a server: another function of that name would read them.
    """
    if _leads_back(target):
        return b""
    try:
        return _described(target.fn)
    except UnkeyableError:
        return None


def _leads_back(target: Target) -> bool:
    return any(
        thing is target.fn or any(stack.target.fn is target.fn for stack in stacks_in(thing))
        for thing in found(target.name)
    )


def _described(fn: Any) -> bytes:
    if isinstance(fn, functools.partial):
        return encode("partial", fn.func, fn.args, fn.keywords)
    if isinstance(fn, types.MethodType):
        return encode("method", fn.__self__, fn.__func__.__qualname__)
    if not isinstance(fn, types.FunctionType):
        return encode("object", fn)
    code = fn.__code__
    if any(isinstance(constant, types.CodeType) for constant in code.co_consts):
        raise UnkeyableError("local-function", fn.__qualname__)
    try:
        held = tuple(cell.cell_contents for cell in fn.__closure__ or ())
    except ValueError:  # what it closes over has no value yet
        raise UnkeyableError("local-function", fn.__qualname__) from None
    made = (code.co_firstlineno, code.co_code, code.co_names, code.co_consts)
    return encode("function", made, fn.__defaults__, fn.__kwdefaults__, held)
