"""Which named fields a result has, by looking through it; it neither changes the result nor judges it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

__all__ = ["field_names"]

_NODES_MAX = 20_000
_PLAIN = (str, bytes, bytearray, int, float, bool, complex, type(None))


def field_names(result: object) -> tuple[frozenset[str], bool]:
    """Return the names of all fields in a result, and whether all of it could be seen.

    Mappings, sequences, sets, dataclasses, named tuples, models and objects with attributes are looked into;
    iterators and other opaque things are not, and neither is more than twenty thousand values.

    Args:
        result: What the function returned.
    """
    names: set[str] = set()
    seen: set[int] = set()
    pending: list[Any] = [result]
    visited = 0
    complete = True
    while pending:
        value = pending.pop()
        visited += 1
        if visited > _NODES_MAX:
            return frozenset(names), False
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        inside = _inside(value)
        if inside is None:
            complete = complete and type(value).__module__ in _LEAVES
            continue
        named, children = inside
        names.update(named)
        pending.extend(children)
    return frozenset(names), complete


_LEAVES = frozenset({"datetime", "decimal", "uuid", "fractions", "ipaddress", "pathlib", "enum", "zoneinfo"})


def _inside(value: Any) -> tuple[list[str], list[Any]] | None:
    """Return field names and children of one value; None when it cannot be looked into."""
    if isinstance(value, Mapping):
        return [key for key in value if isinstance(key, str)], list(value.values())
    if isinstance(value, list | tuple | AbstractSet):
        return list(getattr(value, "_fields", ())), list(value)
    names = _attributes_of(value)
    return None if names is None else (names, [getattr(value, name, None) for name in names])


def _attributes_of(value: Any) -> list[str] | None:
    if isinstance(value, type) or type(value).__module__ in _LEAVES:
        return None
    if dataclasses.is_dataclass(value):
        return [item.name for item in dataclasses.fields(value)]
    attributes = getattr(value, "__dict__", None)
    if attributes is None or hasattr(value, "__next__") or hasattr(value, "__anext__"):
        return None
    return list(attributes)
