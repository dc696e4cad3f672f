"""What a job's function wants, read from its signature: one record or many, which type, a context; calls nothing."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smw._kernel.call import Kind, Target
from smw.errors import ConfigError, DecorationError, RecordError
from smw.pipeline.ports import Tombstone
from smw.pipeline.values import decode

__all__ = ["Shape"]

_P = inspect.Parameter
_POSITIONAL = (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD)
_LISTS = (list, Sequence)
_PATHS_SHOWN = 3


class Shape:
    """How one function takes its records.

    Args:
        target: The function.
        decorator: Name of the decorator, for messages.
        many_unless_said: A first parameter without annotation takes a list of records.
        has_context: A parameter named ``ctx`` gets the context of a record.

    Raises:
        DecorationError: The function cannot be called with a record.
    """

    def __init__(self, target: Target, decorator: str, *, many_unless_said: bool, has_context: bool) -> None:
        self.target = target
        self.is_async = target.kind is Kind.ASYNC
        self._many_unless_said = many_unless_said
        self._has_context = has_context
        self._check(f"@{decorator}")
        parameters = list(target.signature.parameters.values()) if target.signature else []
        self.wants_context = has_context and any(p.name == "ctx" for p in parameters[1:])
        self._annotation: Any = parameters[0].annotation if parameters else _P.empty

    def _check(self, what: str) -> None:
        target = self.target
        if target.kind in (Kind.GEN, Kind.ASYNC_GEN):
            raise DecorationError(
                "SMW-P104",
                f"{what} was put on the {target.kind.value} {target.qualname}, which runs only when it is iterated",
                fix="collect in the function and return a list, or pipeline.emit each result",
            )
        if target.is_method:
            raise DecorationError(
                "SMW-P104",
                f"{what} was put on the method {target.qualname}, whose instance no stream knows",
                fix=f"decorate the bound method: {what[1:]}(...)(instance.{target.qualname.rpartition('.')[2]})",
            )
        if target.signature is None:
            return
        parameters = list(target.signature.parameters.values())
        first, rest = parameters[:1], parameters[1:]
        if not first or first[0].kind not in (*_POSITIONAL, _P.VAR_POSITIONAL):
            message = f"{what} needs a function whose first parameter takes the record; {target.qualname} has none"
            raise DecorationError(
                "SMW-P105", message, fix=f"def {target.qualname.rpartition('.')[2]}(event: dict): ..."
            )
        required = [p.name for p in rest if p.default is _P.empty and p.kind in (*_POSITIONAL, _P.KEYWORD_ONLY)]
        unknown = [name for name in required if name != "ctx" or not self._has_context]
        if unknown:
            message = f"{what} calls {target.qualname} with the record alone, but it also requires {', '.join(unknown)}"
            fix = "give them defaults" + "; a parameter named ctx gets the context" * self._has_context
            raise DecorationError("SMW-P105", message, fix=fix)

    @functools.cached_property
    def hint(self) -> Any:
        """The annotation of the first parameter, resolved; Any where there is none."""
        if self._annotation is _P.empty:
            return Any
        if not isinstance(self._annotation, str):
            return self._annotation
        fn = self.target.fn
        while isinstance(fn, functools.partial):
            fn = fn.func
        fn = inspect.unwrap(getattr(fn, "__func__", fn))
        fn = fn if inspect.isroutine(fn) else type(fn).__call__
        try:
            scope = {**getattr(fn, "__globals__", {}), **inspect.getclosurevars(fn).nonlocals}
            return typing.get_type_hints(fn, globalns=scope, include_extras=True)[self.target.parameters[0]]
        except (NameError, TypeError, AttributeError, KeyError):
            raise ConfigError(
                "SMW-P106",
                f"the annotation of the first parameter of {self.target.qualname} cannot be resolved",
                seen=self._annotation,
                fix="define that type at module level, where the annotation can find it",
            ) from None

    @functools.cached_property
    def many(self) -> bool:
        """Whether the function takes a list of records."""
        if self._annotation is _P.empty:
            return self._many_unless_said
        return self.hint in _LISTS or typing.get_origin(self.hint) in _LISTS

    @functools.cached_property
    def item(self) -> Any:
        """The type of one record."""
        if not self.many:
            return self.hint
        arguments = typing.get_args(self.hint)
        return arguments[0] if arguments else Any

    @functools.cached_property
    def convert(self) -> Callable[[Any], Any]:
        """The function that turns a record's bytes, or an object, into what the handler takes.

        It raises `RecordError`, with the path of the field and without its content.
        """
        item = self.item
        origin = typing.get_origin(item) or item
        if item in (Any, object) or isinstance(item, typing.TypeVar):
            return _decoded
        if item is bytes:
            return _raw
        if origin in (dict, Mapping) and typing.get_args(item) in ((), (str, Any), (str, object)):
            return _object
        return _validated(item, self.target.qualname)


def _decoded(value: Any) -> Any:
    return decode(value) if isinstance(value, bytes) else value


def _raw(value: Any) -> bytes:
    if isinstance(value, bytes) and not isinstance(value, Tombstone):
        return value
    raise RecordError("SMW-P123", f"the handler takes bytes, not {type(value).__name__}")


def _object(value: Any) -> Mapping[str, Any]:
    value = decode(value) if isinstance(value, bytes) else value
    if isinstance(value, Mapping):
        return value
    raise RecordError("SMW-P123", f"the handler takes a JSON object, not {type(value).__name__}")


def _validated(item: Any, qualname: str) -> Callable[[Any], Any]:
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(item)
    except PydanticUserError as error:
        why = str(error).partition("\n")[0]
        message = f"records cannot be converted to what {qualname} is annotated with: {why}"
        raise ConfigError(
            "SMW-P106", message, seen=item, fix="a dict, a pydantic model, a dataclass, or a list of those"
        ) from error
    from_json, from_python = adapter.validate_json, adapter.validate_python

    def convert(value: Any) -> Any:
        try:
            return from_json(value) if isinstance(value, bytes) else from_python(value)
        except ValidationError as error:
            raise RecordError("SMW-P123", _complaints(error)) from None
        except RecursionError:
            raise RecordError("SMW-P123", "the record is nested too deeply") from None

    return convert


def _complaints(error: Any) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [".".join(str(part) for part in item["loc"]) + ": " + item["msg"] for item in found[:_PATHS_SHOWN]]
    more = len(found) - len(shown)
    return "; ".join(text.removeprefix(": ") for text in shown) + (f" (and {more} more)" if more else "")
