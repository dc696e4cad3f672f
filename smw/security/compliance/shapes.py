"""What lies inside one value, and under which names; it neither walks on nor knows what a name stands for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from enum import Enum
from itertools import islice
from typing import Any

__all__ = ["NODES_MAX", "NOTHING", "PLAIN", "Part", "data_inside", "inside", "is_leaf"]

NODES_MAX = 20_000
_ITEMS_MAX = 1_000_000
PLAIN = frozenset({str, bytes, bytearray, int, float, bool, complex, type(None)})
NOTHING = object()  # the child of a name whose value is not looked at
_TEXT = (str, bytes, bytearray, int, float, complex)
_LEAVES = frozenset({"datetime", "decimal", "uuid", "fractions", "ipaddress", "pathlib", "zoneinfo"})
_NO_DATA = frozenset({"__dict__", "__weakref__", "__pydantic_fields_set__"})
Part = tuple[tuple[str, ...], Any]


def is_leaf(value: object) -> bool:
    """Tell whether there is nothing inside: a text, a number, a date."""
    return type(value) in PLAIN or value is NOTHING or type(value) is range or type(value).__module__ in _LEAVES


def data_inside(value: Any) -> list[Part] | None:
    """Return the parts of a container, dataclass or model; None for everything else, which is code as much as data."""
    is_data = isinstance(value, Mapping | AbstractSet | ValuesView) or _is_sequence(value)
    if is_data or (not isinstance(value, type) and (dataclasses.is_dataclass(value) or _is_model(value))):
        return inside(value)
    return None


def inside(value: Any) -> list[Part] | None:  # noqa: PLR0911 - one kind of value each
    """Return the parts of a value with their names; None where what it holds cannot be seen.

    Args:
        value: Anything; iterators, functions and classes cannot be looked into, objects by their attributes.
    """
    if isinstance(value, Enum):
        return [((), value.value)]
    if isinstance(value, type) or hasattr(value, "__next__") or hasattr(value, "__anext__"):
        return None
    attributes = _attributes(value)
    if isinstance(value, Mapping):
        return _together(attributes, (_entry(key, item) for key, item in value.items()))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return attributes + [
            ((str(name),), item) for name, item in zip(getattr(value, "_fields", ()), value, strict=False)
        ]
    if isinstance(value, AbstractSet | ValuesView) or _is_sequence(value):
        return _together(attributes, (((), item) for item in value))
    if isinstance(value, BaseException):
        return [*attributes, ((), value.args)]
    if isinstance(value, _TEXT):
        return attributes
    if callable(value) and not any(names in {("body",), ("response",)} for names, _ in attributes):
        return None
    return attributes if attributes or hasattr(value, "__dict__") or _names_of(_class_of(value))[0] else None


def _together(attributes: list[Part], items: Iterator[Part]) -> list[Part] | None:
    parts = attributes + list(islice(items, _ITEMS_MAX))
    return parts if next(items, None) is None else None


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)


def _is_model(value: object) -> bool:
    return isinstance(getattr(type(value), "model_fields", None), Mapping)


def _entry(key: Any, item: Any) -> Part:
    names = tuple(_names_in(key))
    return names, item if is_leaf(key) or isinstance(key, Enum) else (key, item)


def _names_in(key: Any) -> Iterator[str]:
    if isinstance(key, Enum):
        yield key.name
        yield from _names_in(key.value)
    elif isinstance(key, str):
        yield str(key)
    elif isinstance(key, bytes):
        yield key.decode("latin-1")
    elif isinstance(key, tuple | frozenset):
        for item in key:
            yield from _names_in(item)


def _attributes(value: Any) -> list[Part]:
    """Return attributes, slots, properties and, of a model, what it adds when it is serialized."""
    slots, properties = _names_of(_class_of(value))
    parts: list[Part] = [((str(name),), item) for name, item in getattr(value, "__dict__", {}).items()]
    for name in slots:
        names = () if name.startswith("__pydantic") else (name,)
        parts.append((names, getattr(value, name, None) if names else getattr(value, name, None) or ()))
    parts += [((name,), NOTHING) for name in properties]
    if _is_model(value):
        parts += [((name,), NOTHING) for name in _aliases_of(_class_of(value))]
        if _is_serialized_by_code(_class_of(value)):
            parts.append(((), value.model_dump(by_alias=True, warnings=False)))
    return parts


def _class_of(value: object) -> Any:
    return type(value)


@functools.lru_cache(maxsize=1024)
def _names_of(cls: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the slots of a class and the properties that its objects compute."""
    slots: dict[str, None] = {}
    properties: dict[str, None] = {}
    for base in cls.__mro__:
        own = vars(base)
        listed = own.get("__slots__", ())
        for name in (listed,) if isinstance(listed, str) else tuple(listed):
            if name not in _NO_DATA:
                hidden = name.startswith("__") and not name.endswith("__")
                slots[f"_{base.__name__.lstrip('_')}{name}" if hidden else name] = None
        if base.__module__.partition(".")[0] not in {"builtins", "pydantic", "collections", "abc", "typing"}:
            properties |= dict.fromkeys(
                name for name, item in own.items() if isinstance(item, property | functools.cached_property)
            )
    return tuple(slots), tuple(properties)


@functools.lru_cache(maxsize=1024)
def _aliases_of(model: Any) -> tuple[str, ...]:
    aliases: dict[str, None] = {}
    for field in model.model_fields.values():
        given = (getattr(field, name, None) for name in ("alias", "serialization_alias", "validation_alias"))
        aliases |= dict.fromkeys(alias for alias in given if isinstance(alias, str))
    return tuple(aliases)


@functools.lru_cache(maxsize=1024)
def _is_serialized_by_code(model: Any) -> bool:
    kinds = ("computed_fields", "field_serializers", "model_serializers")
    return any(getattr(getattr(model, "__pydantic_decorators__", None), kind, None) for kind in kinds)
