"""Which classes a function says that it returns, and how their objects are taken apart; knows no format.

Only classes named by the return annotation are rebuilt, so that stored bytes can never choose a class.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from enum import Enum
from typing import Any, NamedTuple

from smw.cache.naming.arguments import UnkeyableError, name_of, slots_of

__all__ = ["Classes", "argument_classes", "classes_of", "declared_classes", "returned"]


class _Shape(NamedTuple):
    """How objects of one class are stored: `take` returns their parts, `make` builds an equal object from them."""

    cls: Any
    names: tuple[str, ...]
    take: typing.Callable[[Any, tuple[str, ...]], list[Any] | None]
    make: typing.Callable[[Any, tuple[str, ...], list[Any]], Any]


def _take_fields(value: Any, names: tuple[str, ...]) -> list[Any] | None:
    extra = getattr(value, "__dict__", None)
    if extra is not None and not extra.keys() <= set(names):
        return None
    return [getattr(value, name) for name in names]


def _make_dataclass(cls: Any, names: tuple[str, ...], parts: list[Any]) -> Any:
    made = object.__new__(cls)
    for name, part in zip(names, parts, strict=True):
        object.__setattr__(made, name, part)
    return made


def _beside_fields(cls: Any) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return what a model has of extra fields and private attributes that holds none; equality looks at both."""
    return {} if cls.model_config.get("extra") == "allow" else None, {} if cls.__private_attributes__ else None


def _take_model(value: Any, names: tuple[str, ...]) -> list[Any] | None:
    beside = value.__pydantic_extra__, value.__pydantic_private__
    if value.__dict__.keys() != set(names) or beside != _beside_fields(type(value)):
        return None
    return [sorted(value.__pydantic_fields_set__), *(value.__dict__[name] for name in names)]


def _make_model(cls: Any, names: tuple[str, ...], parts: list[Any]) -> Any:
    made = cls.__new__(cls)
    object.__setattr__(made, "__dict__", dict(zip(names, parts[1:], strict=True)))
    object.__setattr__(made, "__pydantic_fields_set__", set(parts[0]))
    if not cls.__pydantic_root_model__:  # whose class says that it has neither
        extra, private = _beside_fields(cls)
        object.__setattr__(made, "__pydantic_extra__", extra)
        object.__setattr__(made, "__pydantic_private__", private)
    return made


def _take_member(value: Any, _names: tuple[str, ...]) -> list[Any] | None:
    # A combination of flags is no member and has no name that leads back to it.
    return [value._name_] if value._name_ in type(value).__members__ else None


_MODEL_SLOTS = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


def _has_only(cls: Any, *names: str) -> bool:
    """Tell whether objects of `cls` have no slot beside `names` and no content beside attributes."""
    try:
        return set(slots_of(cls)) <= {*names}
    except UnkeyableError:
        return False


def _shape_of(cls: Any) -> _Shape | None:
    if issubclass(cls, Enum):
        return _Shape(cls, (), _take_member, lambda c, _, parts: c[parts[0]])
    if hasattr(cls, "__pydantic_fields__") and hasattr(cls, "model_construct"):
        return (
            _Shape(cls, tuple(cls.__pydantic_fields__), _take_model, _make_model)
            if _has_only(cls, *_MODEL_SLOTS)
            else None
        )
    if hasattr(cls, "__dataclass_fields__") and cls.__new__ is object.__new__:
        names = tuple(field.name for field in dataclasses.fields(cls))
        return _Shape(cls, names, _take_fields, _make_dataclass) if _has_only(cls, *names) else None
    fields = getattr(cls, "_fields", None)
    if fields is not None and cls.__bases__ == (tuple,) and cls.__dictoffset__ == 0:
        return _Shape(cls, fields, lambda value, _: list(tuple.__iter__(value)), lambda c, _, parts: c._make(parts))
    return None


def _made_of(cls: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return of what generic class a class or an alias is made, and with which arguments; (None, ()) of no such."""
    told = getattr(cls, "__pydantic_generic_metadata__", None) if isinstance(cls, type) else None
    return (told["origin"], told["args"]) if told else (typing.get_origin(cls), typing.get_args(cls))


def _name_of(cls: Any) -> str | None:
    """Return what a class is called in stored bytes.

    What pydantic calls a model that is made of a generic one tells classes of one name in two modules apart by which of
    them came first in the process.
    """
    origin, args = _made_of(cls)
    if origin is None:
        return name_of(cls)
    own, names = _name_of(origin), [_name_of(part) or repr(part) for part in args]  # such as None, or a literal's value
    is_told = own is not None and not any(mark in name for mark in (" at 0x", "<locals>") for name in names)
    return f"{own}[{', '.join(names)}]" if is_told else None


class Classes:
    """The classes that one function may return, by their name in stored bytes.

    Args:
        found: What `declared_classes` returned.
        undeclared: The reason why a class that is not among them, and could be, is not taken.
    """

    def __init__(self, found: dict[str, Any] | None = None, *, undeclared: str = "unstorable-result") -> None:
        self._undeclared = undeclared
        shapes = {name: _shape_of(cls) for name, cls in (found or {}).items()}
        self._by_name = {name: shape for name, shape in shapes.items() if shape is not None}
        self._names = {shape.cls: name for name, shape in self._by_name.items()}

    def take(self, value: Any) -> tuple[str, list[str], list[Any]] | None:
        """Return (class name, field names, parts) of an object, or None when its class was not declared."""
        name = self._names.get(type(value))
        if name is None:
            return None
        shape = self._by_name[name]
        parts = shape.take(value, shape.names)
        return None if parts is None else (name, list(shape.names), parts)

    def knows(self, kind: Any) -> bool:
        """Tell whether objects of a class are taken, unless they hold more than others of it."""
        return kind in self._names

    def why_not(self, kind: Any) -> str:
        """Return the reason why `take` takes no object of a class, or not this one."""
        if kind in self._names and not issubclass(kind, Enum):
            return "extended-result"
        try:
            has_form = kind not in self._names and _shape_of(kind) is not None and _name_of(kind) is not None
        except Exception:  # noqa: BLE001 - a class that raises when asked
            has_form = False
        return self._undeclared if has_form else "unstorable-result"

    def make(self, name: str, names: list[str], parts: list[Any]) -> Any:
        """Return an object equal to the one that was taken apart.

        Raises:
            LookupError: The class is not declared here, or its fields have changed since.
        """
        shape = self._by_name[name]
        if list(shape.names) != names:
            raise LookupError(name)
        return shape.make(shape.cls, shape.names, parts)


def _hints(thing: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing)
    except Exception:  # noqa: BLE001 - names that exist for type checkers only
        return {}


def returned(fn: Any) -> tuple[Any, bool]:
    """Return what the annotation says that `fn` returns, and whether that could be resolved.

    Those of its parameters may name what exists for type checkers only.
    """
    try:
        given = getattr(fn, "__annotations__", {})
        about = types.SimpleNamespace(__annotations__={"return": given["return"]} if "return" in given else {})
        names = getattr(inspect.unwrap(fn), "__globals__", {})
        return typing.get_type_hints(about, globalns=names).get("return"), True
    except Exception:  # noqa: BLE001 - names that exist for type checkers only
        return None, False


def declared_classes(fn: Any) -> dict[str, Any]:
    """Return ``module:qualname`` → class for every class that the return annotation of `fn` reaches."""
    return _reached([returned(fn)[0]])


def classes_of(fn: Any) -> Classes:
    """Return the classes that `fn` may return."""
    hint, is_told = returned(fn)
    return Classes(_reached([hint]), undeclared="undeclared-result" if is_told else "unresolved-annotation")


def argument_classes(fn: Any, owner: Any = None) -> dict[str, Any]:
    """Return ``module:qualname`` → class for every class that the parameters of `fn` reach.

    Args:
        fn: The function.
        owner: The class whose method it is.
    """
    hints = _hints(fn)
    hints.pop("return", None)
    return _reached([owner, *hints.values()])


def _reached(todo: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    seen: list[Any] = []
    while todo:
        hint = todo.pop()
        if hint is None or any(hint is other for other in seen):
            continue
        seen.append(hint)
        origin, parts = _made_of(hint)
        todo.extend((origin, *parts))
        if isinstance(hint, typing.NewType):
            todo.append(hint.__supertype__)
        if typing.is_typeddict(hint):
            todo.extend(_hints(hint).values())
        if not isinstance(hint, type) or _shape_of(hint) is None:
            continue
        name = _name_of(hint)
        if name is not None:
            found[name] = hint
            fields = getattr(hint, "__pydantic_fields__", None)
            todo.extend(field.annotation for field in fields.values()) if fields else todo.extend(_hints(hint).values())
    return found
