"""Turns values into bytes such that an equal value of the same type comes back, or refuses; knows no store."""

from __future__ import annotations

import datetime as dt
import json
import zoneinfo
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import msgpack

from smw.cache.stores.plugged import codec_named, codec_of
from smw.cache.values.copies import DEEPEST, MOST_NODES, Survey, survey
from smw.cache.values.typed import Classes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["JSON", "MSGPACK", "PICKLE", "RAW", "Codec", "CorruptError", "UnstorableError"]

RAW, MSGPACK, PICKLE, JSON = 0, 1, 2, 3
"""How a payload is encoded: bytes as they are, msgpack with the extensions below, a (sealed) pickle, or JSON."""

T = TypeVar("T")

# These pass msgpack as something else than what they are, so they must not reach it.
_TREACHEROUS = frozenset({bytearray, memoryview, msgpack.Timestamp, msgpack.ExtType})
_OBJECT, _PLUGGED, _BIG_INT, _COMPLEX = 20, 21, 10, 11
_ON_STACK = 4
"""So many payloads within each other are read with what `msgpack.unpackb` keeps on the thread's stack: 41 KB each."""
_PLENTY = 2**20
"""Of a payload that is longer it is counted what is made of it."""
_MOST_CONTAINERS = 5 * MOST_NODES
"""An enum or an object without fields, of which there may be so many, is an extension and three lists."""
_MOST_HELD = 2**28


class UnstorableError(Exception):
    """A value has no exact form as bytes.

    Args:
        reason: Short constant for counters and logs.
        what: Name of the offending type.
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(reason, what)
        self.reason = reason
        self.what = what


class CorruptError(Exception):
    """Bytes that are no stored value of ours."""


def _zone(zone: dt.tzinfo | None) -> object:
    if zone is None:
        return None
    if type(zone) is zoneinfo.ZoneInfo and zone.key:
        return zone.key
    if zone.__class__ is dt.timezone:
        offset, name = zone.utcoffset(None) or dt.timedelta(), zone.tzname(None)
        plain = dt.timezone(offset)
        shift = [offset.days, offset.seconds, offset.microseconds]
        return shift if plain.tzname(None) == name else [*shift, name]
    raise UnstorableError("unstorable-result", type(zone).__name__)


def _unzone(stored: Any) -> dt.tzinfo | None:
    if stored is None:
        return None
    if isinstance(stored, str):
        return zoneinfo.ZoneInfo(stored)
    shift = dt.timedelta(*stored[:3])
    if stored[3:]:
        return dt.timezone(shift, stored[3])
    return dt.timezone(shift) if shift else dt.UTC


def _moment(value: Any) -> list[object]:
    return [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, _zone(value.tzinfo)]


_Pair = tuple[int, "Callable[[Any], Any]", "Callable[[Any], Any]"]
_EXTENSIONS: dict[type, _Pair] = {
    tuple: (1, list, tuple),
    set: (2, list, set),
    frozenset: (3, list, frozenset),
    dt.datetime: (4, _moment, lambda p: dt.datetime.fromisoformat(p[0]).replace(fold=p[1], tzinfo=_unzone(p[2]))),
    dt.date: (5, lambda v: v.isoformat(), dt.date.fromisoformat),
    dt.time: (6, _moment, lambda p: dt.time.fromisoformat(p[0]).replace(fold=p[1], tzinfo=_unzone(p[2]))),
    dt.timedelta: (7, lambda v: [v.days, v.seconds, v.microseconds], lambda p: dt.timedelta(*p)),
    Decimal: (8, str, Decimal),
    UUID: (9, lambda v: v.bytes, lambda p: UUID(bytes=p)),
    int: (_BIG_INT, lambda v: b"%x" % v, lambda p: int(p, 16)),
    complex: (_COMPLEX, lambda v: [v.real, v.imag], lambda p: complex(*p)),
}
_BACK = {code: make for code, _, make in _EXTENSIONS.values()}
_LEAVES = frozenset(code for kind, (code, _, _) in _EXTENSIONS.items() if kind not in {tuple, set, frozenset})
"""Those that hold nothing that is an extension."""


def _reason_cut(found: Survey) -> str:
    """Return why a value was not looked at to its end."""
    return "deep-result" if found.deep else "huge-result" if found.nodes > MOST_NODES else "unstorable-result"


def _json(value: Any, found: Survey) -> bytes:
    """Return the JSON of a value, if that makes an equal one."""
    if found.cut:
        raise UnstorableError("no-json-result" if found.types else _reason_cut(found), type(value).__name__)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        payload, is_equal = text.encode(), not found.types and json.loads(text) == value
    except Exception as error:
        # A type that JSON does not have, what is no number, half a surrogate, a cycle, too deep a nesting.
        raise UnstorableError("no-json-result", type(value).__name__) from error
    if not is_equal:  # a tuple came back as a list, a number that was a key as a text, a subclass as its base
        raise UnstorableError("no-json-result", type(value).__name__)
    return payload


class Codec:
    """Encodes the results of one function.

    Args:
        classes: Enums, dataclasses and models that may occur in them.
        allow_pickle: Pickle what nothing else takes. Whoever sets it must seal what is stored.
        as_json: Write JSON and nothing else, for readers in other languages. What others wrote is read all the same.
    """

    def __init__(self, classes: Classes | None = None, *, allow_pickle: bool = False, as_json: bool = False) -> None:
        self._classes = classes or Classes()
        self._allow_pickle = allow_pickle
        self._as_json = as_json

    def pack(self, value: Any, found: Survey | None = None) -> tuple[int, bytes]:
        """Return (encoding, payload) of `value`.

        Args:
            value: What to encode.
            found: Its survey, where one was made already.

        Raises:
            UnstorableError: It would not come back equal and of the same type.
        """
        if self._as_json:
            return JSON, _json(value, found or survey(value))
        if type(value) is bytes:
            return RAW, value
        try:
            found = found or survey(value)
            return MSGPACK, self._pack(value, found)
        except UnstorableError:
            if not self._allow_pickle or (found and found.bound):
                raise
            return PICKLE, self._pickle(value)

    def _pack(self, value: Any, found: Survey, depth: int = 0) -> bytes:
        for kind in (_TREACHEROUS & found.types) | found.bound:
            raise UnstorableError("unstorable-result", kind.__name__)
        if found.cut:  # what was not looked at may be treacherous, or unfold without end
            for kind in sorted(found.types, key=lambda kind: (kind is not type(value), kind.__qualname__)):
                self._check_known(kind)
            raise UnstorableError(_reason_cut(found), type(value).__name__)
        extend = partial(self._extend, depth=depth) if depth else self._extend
        try:
            packed = msgpack.packb(
                value, default=extend, strict_types=True, use_bin_type=True, unicode_errors="surrogatepass"
            )
        except UnstorableError:
            raise
        except Exception as error:
            # Cycles, too deep a nesting, containers beyond 4 GB, a foreign property that raises.
            reason = "deep-result" if isinstance(error, RecursionError) else "unstorable-result"
            raise UnstorableError(reason, type(value).__name__) from error
        return packed or b""

    def _extend(self, value: Any, depth: int = 0) -> msgpack.ExtType:
        if depth > DEEPEST:
            raise UnstorableError("deep-result", type(value).__name__)
        known = _EXTENSIONS.get(type(value))
        if known is not None:
            code, take, _ = known
            return msgpack.ExtType(code, self._pack(take(value), _EMPTY, depth + 1))
        taken = self._classes.take(value)
        if taken is not None:
            return msgpack.ExtType(_OBJECT, self._pack(list(taken), survey(taken[2]), depth + 1))
        plugged = codec_of(type(value))
        payload = None if plugged is None else plugged[1].pack(value)
        if plugged is None:
            raise UnstorableError(self._classes.why_not(type(value)), type(value).__name__)
        if not isinstance(payload, bytes):
            raise UnstorableError("unstorable-result", type(value).__name__)
        return msgpack.ExtType(_PLUGGED, self._pack([plugged[0], payload], _EMPTY))

    def _check_known(self, kind: type) -> None:
        """Refuse a class of which no object has a form."""
        if not (kind in _EXTENSIONS or self._classes.knows(kind) or codec_of(kind)):
            raise UnstorableError(self._classes.why_not(kind), kind.__name__)

    def unpack(self, encoding: int, payload: bytes) -> Any:
        """Return the value of a payload.

        Raises:
            CorruptError: It is none, or one that this function does not return.
        """
        if encoding == RAW:
            return payload
        try:
            if encoding == MSGPACK:
                return self._unpack(payload)
            if encoding == JSON:
                return json.loads(payload)
            if encoding == PICKLE and self._allow_pickle:
                import pickle

                return pickle.loads(payload)  # noqa: S301 - opted in, and authenticated by the seal before it gets here
        except Exception as error:
            raise CorruptError("payload") from error
        raise CorruptError("encoding")

    def _unpack(self, payload: bytes, depth: int = 0, made: _Made | None = None) -> Any:
        if made is None and len(payload) > _PLENTY:
            made = _Made()
        restore = (lambda code, data: self._restore(code, data, depth, made)) if depth or made else self._restore
        if made is None and depth < _ON_STACK:
            return msgpack.unpackb(
                payload, ext_hook=restore, strict_map_key=False, raw=False, unicode_errors="surrogatepass"
            )
        read = msgpack.unpackb if depth < _ON_STACK else _unpack_apart
        count = made and made.container
        return read(
            payload,
            ext_hook=restore,
            list_hook=count,
            object_hook=count,
            strict_map_key=False,
            raw=False,
            unicode_errors="surrogatepass",
        )

    def _restore(self, code: int, data: bytes, depth: int = 0, made: _Made | None = None) -> Any:
        if depth > DEEPEST:
            raise CorruptError("depth")
        if code in _LEAVES:
            if made is not None:
                made.container(None)
            return _BACK[code](msgpack.unpackb(data, ext_hook=_refuse, raw=False, unicode_errors="surrogatepass"))
        if made is None:
            parts = self._unpack(data, depth + 1)
        else:
            with made.container(made).holding(len(data)):
                parts = self._unpack(data, depth + 1, made)
        if code == _OBJECT:
            return self._classes.make(*parts)
        if code == _PLUGGED:
            name, payload = parts
            codec = codec_named(name)
            if codec is None:
                raise LookupError(name)
            return codec.unpack(payload)
        return _BACK[code](parts)

    @staticmethod
    def _pickle(value: Any) -> bytes:
        import pickle

        try:
            return pickle.dumps(value, protocol=5)
        except Exception as error:
            raise UnstorableError("unpicklable-result", type(value).__name__) from error


def _refuse(_code: int, _data: bytes) -> Any:
    raise CorruptError("extension")


class _Made:
    """What has been made of one payload so far: a small forged one could unfold into more than there is room for."""

    __slots__ = ("containers", "held")

    def __init__(self) -> None:
        self.containers = self.held = 0

    def container(self, made: T) -> T:
        """Count a list, a dictionary or an extension, and return it.

        Raises:
            CorruptError: There are more than any value has.
        """
        self.containers += 1
        if self.containers > _MOST_CONTAINERS:
            raise CorruptError("parts")
        return made

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count the bytes of payloads within each other for as long as they are needed.

        Raises:
            CorruptError: They are too many.
        """
        self.held += size
        if self.held > _MOST_HELD:
            raise CorruptError("parts")
        yield
        self.held -= size


def _unpack_apart(payload: bytes, **how: Any) -> Any:
    """Return what `msgpack.unpackb` does, at four times its price and without room on the thread's stack."""
    size = len(payload)
    unpacker = msgpack.Unpacker(read_size=size, max_buffer_size=size, **how)
    unpacker.feed(payload)
    value = unpacker.unpack()
    if unpacker.tell() != size:
        raise CorruptError("payload")
    return value


_EMPTY = Survey()
