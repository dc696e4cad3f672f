"""Finds the calls of a cached function that a call of a writer changes; knows no level and drops nothing."""

from __future__ import annotations

from inspect import Parameter
from typing import TYPE_CHECKING, Any, NamedTuple

from smw._kernel.answers import answered, answers_at_once
from smw._kernel.arity import misfit_as
from smw._kernel.call import Call
from smw._kernel.chain import stack_of
from smw.cache.functions.advice import Cached
from smw.errors import ConfigError, DecorationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smw._kernel.call import Target
    from smw.cache.functions.function import CachedFunction
    from smw.cache.levels.engine import Place

__all__ = ["Reader", "Scopes", "cached_in"]

_FORMS = "a mapping of its arguments by name, a tuple of its positional ones, or a list of such"
_FULL_KEY = "smw:"


class Scopes(NamedTuple):
    """What a call of a writer makes old.

    Attributes:
        tags: Names of counters.
        keys: Full keys.
        here: What this process alone can drop, results of instances without an identity.
    """

    tags: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    here: tuple[str, ...] = ()

    def joined(self, other: Scopes) -> Scopes:
        """Return both together."""
        return Scopes(self.tags + other.tags, self.keys + other.keys, self.here + other.here)


def cached_in(fn: Any) -> tuple[Cached, Target] | None:
    """Return the `cached` of a decorated function and what it stands on, or None."""
    stack = stack_of(fn)
    for advice in () if stack is None else stack.advices:
        if isinstance(advice, Cached) and stack is not None:
            return advice, stack.target
    return None


class Reader:
    """A cached function as a writer sees it.

    Args:
        fn: The cached function.
        mapping: Function of the writer's arguments that returns those of the cached function; None takes them by name.
        decorator: The writer's, for messages.
        option: The name under which `mapping` was given.

    Raises:
        DecorationError: `fn` is not cached, or `mapping` cannot be called.
    """

    def __init__(self, fn: Any, mapping: object, *, decorator: str, option: str) -> None:
        found = cached_in(fn)
        if found is None:
            name = getattr(fn, "__qualname__", repr(fn))
            what = f"@{decorator} is told of {name}, which is not decorated with @cached"
            raise DecorationError("SMW-C140", what, fix="pass the decorated function, not its result and not its name")
        if not (mapping is None or answers_at_once(mapping)):
            fix = f"{option}=lambda user_id, name: {{'user_id': user_id}}"
            raise DecorationError("SMW-C108", f"{option}= takes a function", seen=repr(mapping), fix=fix)
        self.advice, self.target = found
        self._mapping: Any = mapping
        self._decorator = decorator
        self._option = option

    def check(self, writer: Target) -> None:
        """Refuse a writer whose arguments do not tell those of the cached function."""
        wrong = None if self._mapping is None else misfit_as(self._mapping, writer.fn)
        if wrong is not None:
            what = f"the function given as {self._option}= is called as {writer.qualname} is, and fits no call of it"
            fix = f"{self._option}=a function of the parameters {writer.signature}"
            raise DecorationError("SMW-C108", f"{what}: {wrong}", seen=repr(self._mapping), fix=fix)
        missing = [name for name in self.target.parameters if name not in writer.parameters]
        if self._mapping is None and missing:
            what = (
                f"@{self._decorator} on {writer.qualname} cannot tell which results of {self.target.qualname} it "
                f"changes: {', '.join(missing)} of the cached function is no parameter of it"
            )
            fix = f"{self._option}=a function of the same arguments that returns {_FORMS}; or drop by tags="
            raise DecorationError("SMW-C141", what, fix=fix)

    def function(self) -> CachedFunction:
        """Return the function as its cache knows it now."""
        return self.advice.function(self.target)

    def calls(self, call: Call) -> list[Call | str]:
        """Return the calls whose results `call` changes, or their full keys.

        Raises:
            ConfigError: They cannot be told.
            TypeError: The arguments of `call` do not fit its function.
        """
        if self._mapping is None:
            arguments = call.arguments
            try:
                return [self._call_of({name: arguments[name] for name in self.target.parameters})]
            except KeyError as error:  # below a foreign decorator whose own idea of the arguments is another
                raise TypeError(*error.args) from None
        try:
            given = answered(self._mapping(*call.args, **call.kwargs))
        except Exception as error:
            if isinstance(error, TypeError):
                _ = call.arguments  # those that do not fit the function either are Python's to refuse
            what = f"{self._option}= of @{self._decorator} on {call.target.qualname} failed: {type(error).__name__}"
            fix = "mend the function; the call was refused, as nobody could tell what it would have made old"
            raise ConfigError("SMW-C142", what, fix=fix) from error
        return [self._given(each, call) for each in (given if isinstance(given, list) else [given])]

    def _given(self, given: object, call: Call) -> Call | str:
        if isinstance(given, str) and given.startswith(_FULL_KEY):
            return given
        try:
            if isinstance(given, tuple):
                found = Call(self.target, given, {})
                _ = found.arguments
                return found
            if isinstance(given, dict):
                found = Call(self.target, (), given)
                _ = found.arguments
                return found
        except TypeError as error:
            what = f"{self._option}= of @{self._decorator} on {call.target.qualname} does not fit: {error}"
            raise ConfigError("SMW-C142", what, fix=f"return {_FORMS}") from None
        what = f"{self._option}= of @{self._decorator} on {call.target.qualname} returned {type(given).__name__}"
        raise ConfigError("SMW-C142", what, fix=f"return {_FORMS}, or what key_for() returns")

    def _call_of(self, arguments: Mapping[str, Any]) -> Call:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        kinds = self.target.signature.parameters if self.target.signature else {}
        for name, value in arguments.items():
            kind = kinds[name].kind
            if kind is Parameter.VAR_POSITIONAL:
                args.extend(value)
            elif kind is Parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif kind is Parameter.KEYWORD_ONLY:
                kwargs[name] = value
            else:
                args.append(value)
        return Call(self.target, tuple(args), kwargs)

    def place(self, call: Call, writer: Target) -> Place:
        """Return where the result of a call of the cached function belongs.

        Raises:
            ConfigError: It has no key.
        """
        from smw.cache.naming.arguments import UnkeyableError

        try:
            return self.function().place(call)
        except UnkeyableError as error:
            what = (
                f"@{self._decorator} on {writer.qualname}: this call of {self.target.qualname} has no key: "
                f"{error.reason} ({error.what})"
            )
            raise ConfigError(
                "SMW-C142", what, fix="use arguments whose values are plain, such as identifiers"
            ) from None

    def scopes(self, call: Call) -> Scopes:
        """Return what `call` makes old of the cached function.

        Raises:
            ConfigError: It cannot be told.
            TypeError: The arguments of `call` do not fit its function.
        """
        keys: list[str] = []
        here: list[str] = []
        for found in self.calls(call):
            if isinstance(found, str):
                keys.append(found)
                continue
            place = self.place(found, call.target)
            (here if place.of_instance else keys).append(place.scopes[0])
        return Scopes((), tuple(keys), tuple(here))
