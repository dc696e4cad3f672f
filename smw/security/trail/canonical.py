"""How values become bytes in the audit log: canonical JSON without floats, keyed digests; it knows no record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import blake2b, sha512
from typing import Any

__all__ = ["Digests", "encode", "plain"]

_TEXT_MAX = 1024
_ITEMS_MAX = 256
_DEPTH_MAX = 8
_INT_MAX = 2**63
_DIGEST_BYTES = 16
_SCALARS = frozenset({str, int, float, bool, type(None)})

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False).encode
_digest_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=lambda value: _shape(value)).encode  # noqa: PLW0108 - defined below


def encode(record: Mapping[str, Any]) -> bytes:
    """Return the one line of a record: ASCII JSON, keys sorted, no spaces, no newline inside.

    Args:
        record: Strings, integers, booleans, None, lists and mappings of them; other values go through `plain` first.
    """
    return _encode(record).encode("ascii")


def plain(value: object, depth: int = _DEPTH_MAX) -> Any:
    """Return `value` as the log may keep it: bounded in size, floats and odd types as text, never an address.

    Args:
        value: Whatever a caller handed over.
        depth: How many levels of containers are looked into.
    """
    kind = value.__class__  # most arguments are plain texts and numbers, which need no further question
    if (kind is str and len(value) <= _TEXT_MAX) or (kind is int and -_INT_MAX < value < _INT_MAX):  # type: ignore[arg-type, operator]
        return value
    if isinstance(value, Enum):
        value = value.value
    if depth and isinstance(value, Mapping):
        return {str(_scalar(k)): plain(v, depth - 1) for k, v in list(value.items())[:_ITEMS_MAX]}
    if depth and isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in value[:_ITEMS_MAX]]
    return _scalar(value)


def _scalar(value: object) -> str | int | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if len(value) <= _TEXT_MAX else f"{value[:_TEXT_MAX]}[+{len(value) - _TEXT_MAX}]"
    if isinstance(value, int):
        return int(value) if -_INT_MAX < value < _INT_MAX else hex(value)
    return repr(float(value)) if isinstance(value, float) else _odd(value)


def _odd(value: object) -> str:
    """Return text for dates, decimals, UUIDs and the like; for anything else only its type."""
    if type(value).__module__ in {"datetime", "decimal", "uuid", "fractions", "ipaddress", "pathlib"}:
        return str(value)[:_TEXT_MAX]
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _shape(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, AbstractSet):
        return sorted(_digest_encode(item) for item in value)
    if isinstance(value, Mapping):
        return dict(value)
    names = getattr(type(value), "model_fields", None)  # a pydantic model
    if isinstance(names, Mapping):
        return {name: getattr(value, name) for name in names}
    return _odd(value)


class Digests:
    """Keyed digests (BLAKE2b): equal values are recognisable, and nobody without the key can guess one.

    Args:
        key: The secret.
    """

    __slots__ = ("_arguments", "_subject")

    def __init__(self, key: bytes) -> None:
        short = sha512(key).digest()  # BLAKE2b takes at most 64 bytes of key
        self._subject = blake2b(key=short, digest_size=_DIGEST_BYTES, person=b"smw subject")
        self._arguments = blake2b(key=short, digest_size=_DIGEST_BYTES, person=b"smw arguments")

    def pseudonym(self, subject: str) -> str:
        """Return what stands for a subject in the log."""
        digest = self._subject.copy()
        digest.update(subject.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def of(self, values: Mapping[str, object]) -> str | None:
        """Return the digest of several arguments; None when they have no bounded form (a cycle, a huge number)."""
        digest = self._arguments.copy()
        try:
            if {*map(type, values.values())} <= _SCALARS:
                digest.update(b"a" + ascii(values).encode("ascii"))
            else:
                digest.update(b"j" + _digest_encode(values).encode("ascii"))
        except (ValueError, TypeError, RecursionError):
            return None
        return digest.hexdigest()
