"""Decides how a value is kept so that no caller can change what the next one gets; knows no store.

Immutable values are shared, flat containers copied by their own ``copy``, nested containers of plain values kept as
bytes and rebuilt, everything else copied deeply. What cannot be copied, or whose copies would be of no use, is refused.
"""

from __future__ import annotations

import copy
import datetime as dt
import marshal
import sys
import types
from collections import OrderedDict, deque
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "COPIES", "DEEPEST", "FLAT_COPIES", "MOST_NODES", "PLAIN", "Held", "Survey", "UncopyableError", "hold",
    "is_binding", "survey",
]  # fmt: skip

COPIES = ("auto", "share", "deep", "decode")
MOST_NODES = 500_000
DEEPEST = 200
PLAIN = frozenset({int, str, bytes, float, bool, type(None), complex})
_IMMUTABLE = PLAIN | {
    Decimal, Fraction, UUID, dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone, range, type(Ellipsis), type,
    types.FunctionType, types.BuiltinFunctionType,
}  # fmt: skip
FLAT_COPIES: dict[type, Callable[[Any], Any]] = {dict: dict.copy, list: list.copy, set: set.copy}
_CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
_SIZES_OF_ITSELF: set[Any] = {kind.__sizeof__ for kind in (object, dict, list, set, frozenset, deque, OrderedDict)}
"""The sizes of containers without what is in them; an array's counts its items."""
_ONE_SHOT = ("__next__", "__anext__", "__await__")
_BINDING = frozenset({"asyncio", "threading", "_thread", "queue", "multiprocessing", "concurrent", "anyio", "trio"})


class UncopyableError(Exception):
    """A result cannot be kept.

    Args:
        reason: Short constant for counters and logs.
        what: Name of the offending type.
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(reason, what)
        self.reason = reason
        self.what = what


class Held(NamedTuple):
    """A value as memory keeps it: `thaw` (None: share) makes a caller's own of `value`; `size` is an estimate."""

    value: Any
    thaw: Callable[[Any], Any] | None
    size: int


class Survey:
    """What one walk through a value found.

    Attributes:
        mutable: Some container could be changed.
        nested: A changeable container lies inside another.
        plain: Only exact built-ins that marshal knows.
        foreign: Objects of which the walk took no more than the size.
        cut: The walk ended early: too deep, too many, or changed by somebody meanwhile.
        deep: It was too deep, as it is where something holds itself.
        size: Estimated bytes.
        types: Types other than plain scalars and built-in containers.
        bound: Those of them whose objects are of use only while all have the same one, such as locks and queues.
        weighed: Objects, by ``id``, whose size is in `size`.
    """

    __slots__ = ("bound", "cut", "deep", "foreign", "mutable", "nested", "nodes", "plain", "size", "types", "weighed")

    def __init__(self) -> None:
        self.mutable = self.nested = self.foreign = self.cut = self.deep = False
        self.plain = True
        self.size = self.nodes = 0
        self.types: set[type] = set()
        self.bound: set[type] = set()
        self.weighed: set[int] = set()

    def walk(self, value: Any, depth: int) -> None:
        """Take note of `value` and of what it contains."""
        kind = type(value)  # what an object says of its class may be another's: a mock's, a proxy's
        self.nodes += 1
        if kind in PLAIN:
            self.size += sys.getsizeof(value)
            return
        if depth > DEEPEST or self.nodes > MOST_NODES:
            self.foreign = self.cut = True
            self.deep = self.deep or depth > DEEPEST
            return
        if kind is dict:
            self._changeable(depth)
            for key, item in value.items():
                self.walk(key, depth + 1)
                self.walk(item, depth + 1)
        elif kind is list or kind is set:
            self._changeable(depth)
            for item in value:
                self.walk(item, depth + 1)
        elif kind is tuple or kind is frozenset:
            for item in value:
                self.walk(item, depth + 1)
        else:
            self._object(kind, value, depth)
        self.size += _sizeof(value)

    def _changeable(self, depth: int) -> None:
        self.mutable = True
        self.nested = self.nested or depth > 0

    def _object(self, kind: Any, value: Any, depth: int) -> None:
        self.plain = False
        self.types.add(kind)
        if kind in _IMMUTABLE or issubclass(kind, Enum | type):
            return
        if _is_frozen(kind):
            for name in kind.__dataclass_fields__:
                self.walk(getattr(value, name, None), depth + 1)
            return
        if is_binding(kind):
            self.bound.add(kind)
        self.foreign = True
        self._weigh(value, depth)

    def _weigh(self, value: Any, depth: int) -> None:
        """Add the size of what an object holds, each other object within once; take note of nothing else."""
        if id(value) in self.weighed:
            return
        self.weighed.add(id(value))
        inner = Survey()
        inner.nodes, inner.weighed = self.nodes, self.weighed
        for part in _parts(value):
            inner.walk(part, depth + 1)
        self.nodes = inner.nodes
        self.size += inner.size


def _parts(value: Any) -> Iterator[Any]:
    """Yield what an object holds, unless its own ``__sizeof__`` counts that; runs no code of its class."""
    kind: Any = type(value)
    if kind.__sizeof__ not in _SIZES_OF_ITSELF or issubclass(kind, types.ModuleType):
        return
    state: Any = object.__getstate__(value)
    own, slots = state if type(state) is tuple else (state, None)
    yield from (*(own or {}).values(), *(slots or {}).values())  # the names of attributes are their class's
    if isinstance(value, BaseException):
        yield value.args
    elif isinstance(value, dict):
        yield dict.copy(value)
    else:
        for base in _CONTAINERS:
            if isinstance(value, base):
                yield list(base.__iter__(value))


def _is_frozen(kind: Any) -> bool:
    """Tell whether objects of a dataclass are frozen and have no room for anything but its fields.

    Any other may come to hold something changeable: by a cached property, or set past the freeze.
    """
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen or kind.__bases__ != (object,) or kind.__dictoffset__:
        return False
    members = {name for name, member in vars(kind).items() if isinstance(member, types.MemberDescriptorType)}
    return members <= {*kind.__dataclass_fields__, "__weakref__"}


def is_binding(kind: type) -> bool:
    """Tell whether objects of a class bind those together that hold the same one, so that a copy binds nobody."""
    if issubclass(kind, BaseException | Enum):
        return False
    return any(cls.__module__.partition(".")[0] in _BINDING for cls in kind.__mro__)


def _sizeof(value: Any) -> int:
    try:
        return sys.getsizeof(value)
    except Exception:  # noqa: BLE001 - an object may lie about its size
        return 64


def survey(value: Any) -> Survey:
    """Walk through `value` once, however deep or cyclic."""
    found = Survey()
    try:
        found.walk(value, 0)
    except Exception as error:  # noqa: BLE001 - changed by another thread meanwhile, or a class that raises when asked
        found.foreign = found.cut = True
        found.deep = found.deep or isinstance(error, RecursionError)
    return found


def _deep(value: Any, size: int) -> Held:
    memo: dict[int, Any] = {}
    made = copy.deepcopy(value, memo)
    for part in list(memo.values()):  # all that was copied, however deep within objects
        if is_binding(type(part)):
            raise UncopyableError("uncopyable-result", type(part).__name__)
    return Held(made, copy.deepcopy, size)


def hold(value: Any, how: str, found: Survey) -> Held:
    """Return what memory keeps for `value`, sharing nothing changeable with it unless `how` says so.

    Args:
        value: The result of a function.
        how: ``auto``, ``share`` or ``deep``.
        found: Its survey.

    Raises:
        UncopyableError: It is used up by reading it, or has no copy.
    """
    try:
        return _held(value, how, found)
    except UncopyableError:
        raise
    except Exception as error:
        raise UncopyableError("uncopyable-result", type(value).__name__) from error


def _held(value: Any, how: str, found: Survey) -> Held:
    if found.foreign and any(hasattr(type(value), name) for name in _ONE_SHOT):
        raise UncopyableError("one-shot-result", type(value).__name__)
    if how == "share" or (not found.mutable and not found.foreign and how == "auto"):
        return Held(value, None, found.size)
    for kind in found.bound:
        raise UncopyableError("uncopyable-result", kind.__name__)
    if how == "deep":
        return _deep(value, found.size)
    flat = FLAT_COPIES.get(type(value))
    if flat is not None and not found.nested and not found.foreign:
        return Held(flat(value), flat, found.size)
    if found.plain and not found.foreign:
        try:
            packed = marshal.dumps(value)
        except ValueError:  # nested more deeply than marshal goes
            return _deep(value, found.size)
        # These bytes never leave the process that made them.
        return Held(packed, marshal.loads, sys.getsizeof(packed))
    return _deep(value, found.size)
