"""Turns arguments into bytes that differ exactly where the arguments differ; knows no store and no function.

Every value is written as a type tag, its length and its content, so that no two values share an encoding:
``1``, ``True``, ``1.0`` and ``"1"`` stay apart, and so do ``("a", "bc")`` and ``("ab", "c")``. Dictionaries and sets
are free of order. What has no structure that could be written (an arbitrary object, a cycle) is refused; an address
or a ``repr`` never enters a key.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import struct
import sys
import types
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import reduce
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from smw._kernel.reference import module_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["DIGEST_BYTES", "UnkeyableError", "digest", "encode", "name_of", "slots_of", "tag_text"]

MOST_NODES = 200_000
DIGEST_BYTES = 16
_WORD = struct.calcsize("P")
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or by an extension that counts in its size
_HOUSEKEEPING = frozenset({"__dict__", "__weakref__"})
_PATHS = frozenset({PurePath, PurePosixPath, PureWindowsPath, Path, PosixPath, WindowsPath})
_ADDRESSES = frozenset(f"IPv{version}{what}" for version in "46" for what in ("Address", "Network", "Interface"))
_double = struct.Struct(">d").pack


class UnkeyableError(Exception):
    """A value has no key.

    Args:
        reason: Short constant for counters and logs.
        what: Name of the offending type.
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(reason, what)
        self.reason = reason
        self.what = what


class _Writer:
    """One encoding in progress: what was written, and which containers are open."""

    __slots__ = ("nodes", "open", "out")

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.open: set[int] = set()
        self.nodes = 0

    def enter(self, value: object) -> None:
        if id(value) in self.open:
            raise UnkeyableError("cyclic-argument", type(value).__name__)
        self.open.add(id(value))

    def write(self, value: object) -> None:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise UnkeyableError("huge-argument", type(value).__name__)
        kind = type(value)  # what an object says of its class may be another's: a mock's, a proxy's
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            text = scalar(value)
            self.out.append(b"%b%d:%b" % (_TAGS[kind], len(text), text))
            return
        container = _CONTAINERS.get(kind)
        if container is None:
            container = _structured(kind)
        self.enter(value)
        container(self, value)
        self.open.discard(id(value))

    def sequence(self, tag: bytes, items: Iterable[object], count: int) -> None:
        self.out.append(b"%b%d:" % (tag, count))
        for item in items:
            self.write(item)

    def apart(self, *values: object) -> bytes:
        """Encode `values` on their own, so that they can be sorted among others."""
        before, self.out = self.out, []
        for value in values:
            self.write(value)
        text, self.out = b"".join(self.out), before
        return text

    def unordered(self, tag: bytes, parts: Iterable[bytes]) -> None:
        ordered = sorted(parts)
        self.out.append(b"%b%d:" % (tag, len(ordered)))
        self.out.extend(ordered)


def _text(value: Any) -> bytes:
    return value.encode("utf-8", "surrogatepass")  # type: ignore[no-any-return]


def _integer(value: Any) -> bytes:
    return b"%x" % value  # hexadecimal is linear in the size and free of the interpreter's limit on decimal digits


def _zone(zone: dt.tzinfo | None) -> tuple[object, ...]:
    if zone is None:
        return ()
    kind = type(zone)
    if kind is dt.timezone:
        return ("offset", zone.utcoffset(None), zone.tzname(None))
    if kind is zoneinfo.ZoneInfo and isinstance(key := getattr(zone, "key", None), str):
        return ("zone", key)
    # Offset and name at one moment do not tell the rules of one zone from those of another.
    raise UnkeyableError("unkeyable-argument", f"{kind.__module__}.{kind.__qualname__}")


def _moment(value: dt.datetime | dt.time) -> tuple[object, ...]:
    return (value.replace(tzinfo=None, fold=0).isoformat(), value.fold, _zone(value.tzinfo))


def _decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    return b"%d|%b|%b" % (sign, "".join(map(str, digits)).encode(), str(exponent).encode())


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    int: _integer,
    str: _text,
    bool: lambda value: b"1" if value else b"0",
    type(None): lambda _value: b"",
    float: _double,
    bytes: bytes,
    bytearray: bytes,
    complex: lambda value: _double(value.real) + _double(value.imag),
    Decimal: _decimal,
    Fraction: lambda value: b"%d/%d" % (value.numerator, value.denominator),
    UUID: lambda value: value.bytes,
    dt.date: lambda value: value.isoformat().encode(),
    dt.timedelta: lambda value: b"%d,%d,%d" % (value.days, value.seconds, value.microseconds),
    type(Ellipsis): lambda _value: b"",
}
_TAGS: dict[type, bytes] = {
    int: b"i", str: b"s", bool: b"b", type(None): b"n", float: b"f", bytes: b"y", bytearray: b"Y", complex: b"c",
    Decimal: b"D", Fraction: b"F", UUID: b"U", dt.date: b"d", dt.timedelta: b"l", type(Ellipsis): b"e",
}  # fmt: skip


def _pairs(writer: _Writer, value: Any) -> Iterable[bytes]:
    return [writer.apart(key, item) for key, item in value.items()]


_CONTAINERS: dict[type, Callable[[_Writer, Any], None]] = {
    tuple: lambda w, v: w.sequence(b"t", v, len(v)),
    list: lambda w, v: w.sequence(b"L", v, len(v)),
    deque: lambda w, v: w.sequence(b"q", (v.maxlen, *v), len(v) + 1),
    dict: lambda w, v: w.unordered(b"m", _pairs(w, v)),
    OrderedDict: lambda w, v: w.sequence(b"o", [x for pair in v.items() for x in pair], 2 * len(v)),
    set: lambda w, v: w.unordered(b"S", [w.apart(item) for item in v]),
    frozenset: lambda w, v: w.unordered(b"z", [w.apart(item) for item in v]),
    dt.datetime: lambda w, v: w.sequence(b"T", _moment(v), 3),
    dt.time: lambda w, v: w.sequence(b"h", _moment(v), 3),
    dt.timezone: lambda w, v: w.sequence(b"Z", _zone(v), 3),
    zoneinfo.ZoneInfo: lambda w, v: w.sequence(b"Z", _zone(v), 2),
    Counter: lambda w, v: w.unordered(b"M", _pairs(w, v)),
    defaultdict: lambda w, v: w.sequence(b"g", (v.default_factory, dict(v)), 2),
    memoryview: lambda w, v: w.sequence(b"v", (v.format, v.shape, v.tobytes()), 3),
    range: lambda w, v: w.sequence(b"r", (v.start, v.stop, v.step), 3),
    slice: lambda w, v: w.sequence(b"x", (v.start, v.stop, v.step), 3),
}


def name_of(thing: Any) -> str | None:
    """Return ``module:qualname`` if that name leads back to `thing`, else None."""
    module, qualname = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str):
        return None
    try:
        found = reduce(getattr, qualname.split("."), sys.modules.get(module))
    except AttributeError:
        return None
    return f"{module_of(thing)}:{qualname}" if found is thing else None


def _named(writer: _Writer, value: Any) -> None:
    name = name_of(value)
    if name is None:
        raise UnkeyableError("local-function-argument", getattr(value, "__qualname__", type(value).__name__))
    writer.sequence(b"N", (name,), 1)


def _declared(writer: _Writer, value: Any) -> None:
    kind = type(value)
    writer.sequence(b"K", (f"{module_of(kind)}:{kind.__qualname__}", value.__cache_key__()), 2)


def _class(value: object) -> str:
    """Name the class of `value`; one that its name does not lead to may exist twice with different behaviour."""
    name = name_of(type(value))
    if name is None:
        raise UnkeyableError("local-class-argument", type(value).__qualname__)
    return name


def _enum(writer: _Writer, value: Any) -> None:
    # A flag may be a combination without a name of its own.
    # An enum may give `name` a meaning of its own; the underscored one is what it was declared as.
    name = value._name_
    writer.sequence(b"E", (_class(value), name, None if name is not None else int(value._value_)), 3)


def slots_of(kind: type) -> list[str]:
    """Name the slots of a class, those of its bases included.

    Raises:
        UnkeyableError: Its objects have content besides their attributes.
    """
    slots = [
        name
        for cls in kind.__mro__
        for name, member in vars(cls).items()
        if isinstance(member, types.MemberDescriptorType) and name not in _HOUSEKEEPING
    ]
    accounted = object.__basicsize__ + _WORD * (len(slots) + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0))
    compiled = any(cls is not object and not cls.__flags__ & _HEAP_TYPE for cls in kind.__mro__)
    if compiled or kind.__itemsize__ or kind.__basicsize__ > accounted:
        raise UnkeyableError("unkeyable-argument", f"{kind.__module__}.{kind.__qualname__}")
    return slots


def _filled(value: object) -> set[str]:
    return {name for name in slots_of(type(value)) if hasattr(value, name)}


def _dataclass(writer: _Writer, value: Any) -> None:
    names = tuple(type(value).__dataclass_fields__)
    more = {*getattr(value, "__dict__", ()), *_filled(value)}
    fields = [x for name in (*names, *sorted(more.difference(names))) for x in (name, getattr(value, name))]
    writer.sequence(b"C", (_class(value), *fields), 1 + len(fields))


def _model(writer: _Writer, value: Any) -> None:
    # Which fields were set explicitly decides what some ways of dumping a model leave out.
    slots = {name: getattr(value, name) for name in _filled(value)}
    writer.sequence(b"P", (_class(value), dict(value.__dict__), slots), 3)


def _namedtuple(writer: _Writer, value: Any) -> None:
    writer.sequence(b"u", (_class(value), *tuple.__iter__(value)), 1 + tuple.__len__(value))


def _path(writer: _Writer, value: Any) -> None:
    writer.sequence(b"p", (type(value).__name__, str(value)), 2)


def _address(writer: _Writer, value: Any) -> None:
    writer.sequence(b"I", (type(value).__name__, str(value)), 2)


def _is_address(kind: Any) -> bool:
    name = kind.__name__  # the module is loaded where there is one
    return name in _ADDRESSES and getattr(sys.modules.get("ipaddress"), name, None) is kind


def _is_model(kind: Any) -> bool:
    return hasattr(kind, "__pydantic_fields__") and hasattr(kind, "model_construct")


def _is_namedtuple(kind: Any) -> bool:
    return kind.__bases__ == (tuple,) and hasattr(kind, "_fields") and kind.__dictoffset__ == 0


_SHAPES: tuple[tuple[Callable[[Any], bool], Callable[[_Writer, Any], None]], ...] = (
    (lambda kind: issubclass(kind, type), _named),
    (lambda kind: callable(getattr(kind, "__cache_key__", None)), _declared),
    (lambda kind: issubclass(kind, Enum), _enum),
    (_is_model, _model),
    (lambda kind: hasattr(kind, "__dataclass_fields__"), _dataclass),
    (_is_namedtuple, _namedtuple),
    (lambda kind: issubclass(kind, types.FunctionType | types.BuiltinFunctionType), _named),
    (lambda kind: kind in _PATHS, _path),
    (_is_address, _address),
)


def _structured(kind: type) -> Callable[[_Writer, Any], None]:
    """Choose how to write a value that is no exact built-in."""
    for fits, write in _SHAPES:
        if fits(kind):
            return write
    raise UnkeyableError("unkeyable-argument", f"{kind.__module__}.{kind.__qualname__}")


def encode(*values: object) -> bytes:
    """Return the canonical encoding of `values`.

    Raises:
        UnkeyableError: A value has no key.
    """
    parts = []
    for value in values if len(values) <= MOST_NODES else ():
        kind = type(value)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            break
        text = scalar(value)
        parts.append(b"%b%d:%b" % (_TAGS[kind], len(text), text))
    else:
        if len(parts) == len(values):
            return b"".join(parts)
    return _encode_any(values)


def _encode_any(values: tuple[object, ...]) -> bytes:
    writer = _Writer()
    try:
        for value in values:
            writer.write(value)
    except UnkeyableError:
        raise
    except RecursionError:
        raise UnkeyableError("deep-argument", type(values[-1]).__name__) from None
    except Exception as error:
        # A foreign __cache_key__, property or time zone failed; that must not fail the call.
        raise UnkeyableError("failing-argument", type(error).__name__) from error
    return b"".join(writer.out)


def digest(encoded: bytes, key: bytes = b"") -> str:
    """Return 32 hexadecimal digits for an encoding; with a secret `key` nobody else can guess arguments from them."""
    return hashlib.blake2b(encoded, digest_size=DIGEST_BYTES, key=key).hexdigest()


def tag_text(value: object) -> str:
    """Return how a value reads within a tag: scalars as text with ``%`` and ``:`` escaped, others as a digest.

    Raises:
        UnkeyableError: The value has no key.
    """
    value = value.value if isinstance(value, Enum) else value
    if type(value) in _READABLE:
        return str(value).replace("%", "%25").replace(":", "%3A")
    return digest(encode(value))


_READABLE = frozenset({int, str, bool, float, UUID, Decimal, dt.date})
