"""Compiles, once per function, what a call does with its arguments: bind, key, answer a hit; knows no cache."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from smw._kernel.raising import StoppedError

if TYPE_CHECKING:
    import types

__all__ = ["UNKEYED", "Entry", "Gear", "compile_binder", "compile_entry", "compile_gear_key"]

UNKEYED = object()
"""What a compiled key function returns for arguments that the fast gear does not serve."""

_P = inspect.Parameter
_VARIADIC = (_P.VAR_POSITIONAL, _P.VAR_KEYWORD)
_Namespace = dict[str, Any]


class Entry(Protocol):
    """An answer that needs no I/O, as the fast gear sees it.

    `deadline` is on the clock of the gear. `thaw` makes the caller's own copy of `value`; None shares it.
    """

    value: Any
    deadline: float
    touched: int
    thaw: Callable[[Any], Any] | None


class Counter(Protocol):
    """Where hits are counted."""

    hits: int


class Gear:
    """What an advice lends to the compiled entry so that it can answer at once.

    Args:
        get: ``dict.get`` of a table from fast-gear key to `Entry`.
        now: Monotonic clock, seconds.
        counter: Its `hits` grows by one for each answer; a lost tick under threads is accepted.
    """

    __slots__ = ("counter", "get", "now")

    def __init__(self, get: Callable[[Any], Entry | None], now: Callable[[], float], counter: Counter) -> None:
        self.get = get
        self.now = now
        self.counter = counter


def _declare(signature: inspect.Signature, env: _Namespace) -> str:
    """Write the parameter list of a function with this signature; defaults are put into `env` by reference."""
    parts: list[str] = []
    seen_keyword_only = False
    parameters = list(signature.parameters.values())
    for index, parameter in enumerate(parameters):
        name = parameter.name
        if parameter.kind is _P.VAR_POSITIONAL:
            parts.append(f"*{name}")
            seen_keyword_only = True
            continue
        if parameter.kind is _P.VAR_KEYWORD:
            parts.append(f"**{name}")
            continue
        if parameter.kind is _P.KEYWORD_ONLY and not seen_keyword_only:
            parts.append("*")
            seen_keyword_only = True
        if parameter.default is not _P.empty:
            env[f"_smw_d_{name}"] = parameter.default
            name = f"{name}=_smw_d_{name}"
        parts.append(name)
        last = index + 1 == len(parameters) or parameters[index + 1].kind is not _P.POSITIONAL_ONLY
        if parameter.kind is _P.POSITIONAL_ONLY and last:
            parts.append("/")
    return ", ".join(parts)


def _execute(source: str, env: _Namespace, name: str) -> Any:
    exec(compile(source, f"<smw {name}>", "exec"), env)  # noqa: S102 - built from a signature's identifiers only
    return env[name]


def compile_binder(qualname: str, signature: inspect.Signature | None) -> Callable[..., dict[str, object]]:
    """Return a function that takes a call's arguments and returns them by parameter name, defaults applied."""
    if signature is None:
        return lambda *args, **kwargs: {"args": args, "kwargs": kwargs}
    env: _Namespace = {}
    items = ", ".join(f"{name!r}: {name}" for name in signature.parameters)
    binder = _execute(f"def _smw_bind({_declare(signature, env)}):\n    return {{{items}}}\n", env, "_smw_bind")
    binder.__qualname__ = qualname
    binder.__name__ = qualname.rpartition(".")[2]
    return binder  # type: ignore[no-any-return]


def _key_parts(signature: inspect.Signature | None, *, is_method: bool) -> tuple[str, str] | None:
    """Return (guard, key) expressions, or None where the arguments can never key the fast gear.

    Only exact int and str (and None) are let through: 1, True and 1.0 are equal as dictionary keys, and a
    subclass may compare as it likes. An instance goes by identity, which its entries must not outlive.
    """
    if signature is None:
        return None
    if any(p.kind in _VARIADIC or p.name.startswith("_smw_") for p in signature.parameters.values()):
        return None
    guards: list[str] = []
    keys: list[str] = []
    for index, parameter in enumerate(signature.parameters.values()):
        name = parameter.name
        if index == 0 and is_method:
            keys.append(f"_smw_id({name})")
            continue
        first, second = ("str", "int") if parameter.annotation in (str, "str") else ("int", "str")
        guards.append(f"({name}.__class__ is {first} or {name}.__class__ is {second} or {name} is None)")
        keys.append(name)
    key = keys[0] if len(keys) == 1 else f"({', '.join(keys)})"
    return " and ".join(guards) or "True", key


def compile_gear_key(signature: inspect.Signature | None, *, is_method: bool) -> Callable[..., object] | None:
    """Return a function from a call's arguments to the key that the compiled entry would use, or `UNKEYED`."""
    parts = _key_parts(signature, is_method=is_method)
    if parts is None or signature is None:
        return None
    env: _Namespace = {"_smw_id": id, "int": int, "str": str}
    guard, key = parts
    source = f"def _smw_key({_declare(signature, env)}):\n    return {key} if {guard} else _smw_miss\n"
    env["_smw_miss"] = UNKEYED
    return _execute(source, env, "_smw_key")  # type: ignore[no-any-return]


_ENTRY = """
def _smw_make(_smw_get, _smw_now, _smw_count, _smw_slow):
    {async_}def _smw_entry({declare}):
        if {guard}:
            _smw_e = _smw_get({key})
            if _smw_e is not None and _smw_e.deadline > _smw_now():
                _smw_e.touched = 1
                _smw_count.hits += 1
                _smw_t = _smw_e.thaw
                if _smw_t is None:
                    return _smw_e.value
                {thaw}
        return {await_}_smw_slow({args}, {kwargs})
    def _smw_shift(get, now, count, slow):
        nonlocal _smw_get, _smw_now, _smw_count, _smw_slow
        if now is not None:  # a call in another thread may be between its look-up and these two
            _smw_now, _smw_count = now, count
        _smw_get, _smw_slow = get, slow
    return _smw_entry, _smw_shift
"""
_THAW = "return _smw_t(_smw_e.value)"
_THAW_SYNC = """try:
                    return _smw_t(_smw_e.value)
                except _smw_stopped as _smw_s:
                    raise _smw_s.stop from None"""
_PLAIN = """
def _smw_make(_smw_get, _smw_now, _smw_count, _smw_slow):
    {async_}def _smw_entry(*args, **kwargs):
        return {await_}_smw_slow(args, kwargs)
    def _smw_shift(get, now, count, slow):
        nonlocal _smw_slow
        _smw_slow = slow
    return _smw_entry, _smw_shift
"""
Slow = Callable[[tuple[Any, ...], dict[str, Any]], Any]
Shift = Callable[[Any, Any, Any, Slow], None]


def compile_entry(
    fn: Any, signature: inspect.Signature | None, *, slow: Slow, is_async: bool, is_method: bool, geared: bool
) -> tuple[types.FunctionType, Shift]:
    """Build the function that a call enters first.

    Args:
        fn: The decorated function, for names in error messages and tracebacks.
        signature: Its signature.
        slow: Takes (args, kwargs) and runs the chain.
        is_async: Build a coroutine function.
        is_method: The first parameter is the instance.
        geared: An advice of the chain may lend a `Gear`.

    Returns:
        The entry, and ``shift(get, now, counter, slow)``, which swaps what it uses.
    """
    words = {"async_": "async ", "await_": "await "} if is_async else {"async_": "", "await_": ""}
    env: _Namespace = {"_smw_id": id, "_smw_stopped": StoppedError, "int": int, "str": str}
    parts = _key_parts(signature, is_method=is_method) if geared else None
    if parts is None or signature is None:
        source = _PLAIN.format(**words)
    else:
        positional = [p.name for p in signature.parameters.values() if p.kind is not _P.KEYWORD_ONLY]
        keyword = [p.name for p in signature.parameters.values() if p.kind is _P.KEYWORD_ONLY]
        source = _ENTRY.format(
            **words,
            thaw=_THAW if is_async else _THAW_SYNC,
            declare=_declare(signature, env),
            guard=parts[0],
            key=parts[1],
            args="(" + "".join(f"{name}, " for name in positional) + ")",
            kwargs="{" + ", ".join(f"{name!r}: {name}" for name in keyword) + "}",
        )
    make = _execute(source, env, "_smw_make")
    entry, shift = make({}.get, None, None, slow)
    entry.__qualname__ = getattr(fn, "__qualname__", type(fn).__qualname__)
    return entry, shift
