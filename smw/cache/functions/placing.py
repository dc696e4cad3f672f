"""Where the results of one function's calls belong: their keys, tags and tables; knows no level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smw._kernel.answers import answered
from smw._kernel.call import Call
from smw._kernel.compiler import UNKEYED
from smw.cache.functions.remarks import remedy
from smw.cache.levels.engine import OF_INSTANCE, Place
from smw.cache.naming.arguments import UnkeyableError, encode
from smw.cache.naming.identity import identity_of
from smw.cache.naming.key import Key
from smw.cache.naming.names import fence_of
from smw.errors import ConfigError

if TYPE_CHECKING:
    from smw._kernel.call import Target
    from smw.cache.functions.remarks import Remarks
    from smw.cache.levels.memory import Memory, Table
    from smw.cache.naming.names import Names
    from smw.cache.options import Options
    from smw.cache.values.forms import Policy

__all__ = ["Placing", "blamed"]

_REMEMBERED = 256
_MOST_BYTES = 200
"""The longest encoding of arguments whose place is remembered, which keeps those arguments."""


class Placing:
    """The places of one function's results.

    Args:
        target: The function.
        options: What the decorator was told.
        policy: How its results are kept.
        names: How keys and tags are called.
        remarks: Told of what stays in memory.
        memory: Keeps the entries.

    Attributes:
        table: Entries under the keys of the compiled entry.
        texts: All others.
        warmed: Entries from before their first call, under their full keys: the arguments are not known yet.
        mark: Stands for the function where servers note what is asked for most.
        is_told_apart: Whether its keys tell the function from every other one.
        is_told_by_name: Whether it is the name alone that does.
        gear_key: From a call's arguments to its key in `table`; None where all are in `texts`.
    """

    def __init__(
        self, target: Target, options: Options, policy: Policy, names: Names, remarks: Remarks, *, memory: Memory
    ) -> None:
        self.table: Table = {}
        self.texts: Table = {}
        self.warmed: Table = {}
        is_geared = policy.in_memory and options.key is None and options.condition is None
        self.gear_key = target.gear_key if is_geared else None
        self._target = target
        self._options = options
        self._names = names
        self._remarks = remarks
        self._memory = memory
        self._shares = bool(policy.names)
        self._names_of_levels = policy.names
        self._codec = policy.codec
        parameters = target.signature.parameters.values() if target.signature else ()
        # Who passes key= says what tells results apart, for whatever function computes them.
        identity = identity_of(target) if options.key is None else b""
        self.is_told_apart = identity is not None
        self.is_told_by_name = identity == b""
        shape = tuple((p.name, int(p.kind)) for p in parameters)
        self._prefix = encode(target.name, options.version, shape) + (identity or b"")
        self.mark = names.mark(self._prefix)
        fixed = None if any(tag.fields for tag in options.tags) else [names.tag(tag.text) for tag in options.tags]
        self._fixed_tags = None if fixed is None else (names.everything, *fixed)
        # What passes key= may say something else each time, and so may an instance of its identity.
        self._is_repeatable = options.key is None and not target.is_method
        self._quick = target.gear_key if self._is_repeatable else self.gear_key
        self._known: dict[object, Place] = {}

    def of(self, call: Call) -> Place:
        """Return where the result of a call belongs.

        Raises:
            UnkeyableError: It has no key.
            TypeError: Its arguments do not fit.
        """
        quick = UNKEYED if self._quick is None else self._quick(*call.args, **call.kwargs)
        place = self._known.get(quick) or self._of(call, quick)
        if self.warmed and place.text in self.warmed:
            self._adopt(place)
        return place

    def _adopt(self, place: Place) -> None:
        """Put what came before its first call where that call looks for it, if it can be dropped as the call says."""
        with self._memory.lock:
            entry = self.warmed.get(place.text)
            if entry is None:
                return
            if entry.tags != place.tags or place.key in place.home:  # what has been loaded meanwhile is newer
                self._memory.abandon(entry)
                return
            self.warmed.pop(place.text, None)
            entry.home, entry.key = place.home, place.key
            place.home[place.key] = entry

    def _of(self, call: Call, quick: object) -> Place:
        arguments = call.arguments
        tags = self._fixed_tags
        if tags is None:
            names, render = self._names, [tag.render(arguments) for tag in self._options.tags]
            tags = (names.everything, *map(names.tag, render))
        if self._options.key is not None:
            return self._named(self.texts, self._own_key(call), tags)
        instance = next(iter(arguments.values()), None) if self._target.is_method else None
        if instance is None or hasattr(type(instance), "__cache_key__"):
            encoded = encode(*arguments.values())
            is_geared = quick is not UNKEYED and instance is None and self.gear_key is not None
            place = self._named(self.table if is_geared else self.texts, encoded, tags, quick)
            if quick is not UNKEYED and self._is_repeatable and len(encoded) <= _MOST_BYTES:
                self._remember(quick, place)
            return place
        return self._of_instance(instance, arguments, tags, quick)

    def _remember(self, quick: object, place: Place) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known = {}
        self._known[quick] = place

    def _named(self, home: Table, encoded: bytes, tags: tuple[str, ...], quick: object = UNKEYED) -> Place:
        text = self._names.key(self._prefix + encoded)
        key = quick if home is self.table else text
        if self.is_told_apart:
            return Place(home, key, text, tags, (text, *tags), fence=fence_of(text) if self._shares else "")
        if self._shares:
            self._remarks.warn("function-without-identity", self._target.qualname)
        return Place(home, key, None, tags, (text, *tags))

    def _of_instance(self, instance: Any, arguments: dict[str, object], tags: tuple[str, ...], quick: object) -> Place:
        """Keep results of an instance without an identity of its own in memory, and no longer than it lives."""
        if type(instance).__weakrefoffset__ == 0:
            raise UnkeyableError("instance-without-weakref", type(instance).__name__)
        if self._shares:
            self._remarks.warn("method-without-identity", type(instance).__name__)
        rest = encode(*list(arguments.values())[1:])
        own = f"{OF_INSTANCE}{id(instance):x}:{self._names.key(self._prefix + rest)}"
        home, key = (self.texts, own) if quick is UNKEYED else (self.table, quick)
        return Place(home, key, None, tags, (own, *tags))

    def _own_key(self, call: Call) -> bytes:
        assert self._options.key is not None  # noqa: S101 - for the type checker
        try:
            return encode(answered(self._options.key(*call.args, **call.kwargs)))
        except UnkeyableError:
            raise
        except Exception as error:
            raise UnkeyableError("failing-key", type(error).__name__) from error

    def key_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key:
        """Return the full key of a call.

        Raises:
            ConfigError: It has none.
        """
        call = Call(self._target, args, kwargs)
        try:
            place = self._of(call, UNKEYED)
        except UnkeyableError as error:
            what = f"this call of {self._target.name} has no key: {error.reason} ({blamed(call, error)})"
            raise ConfigError("SMW-C113", what, fix=remedy(error.reason)) from None
        if place.of_instance:
            what = f"{self._target.name} is a method whose class says nothing of identity"
            raise ConfigError("SMW-C113", what, fix=remedy("method-without-identity"))
        return Key.of(
            place.scopes[0],
            place.tags,
            fn=self._target.name,
            labels=tuple([tag.render(call.arguments) for tag in self._options.tags]),
            names=self._names_of_levels if place.text is not None else (),
            codec=self._codec,
        )


def blamed(call: Call, error: UnkeyableError) -> str:
    """Return which argument has no key, and its type."""
    for name, value in call.arguments.items():
        try:
            encode(value)
        except UnkeyableError as found:
            if found.args == error.args:
                return f"{name}: {error.what}"
    return error.what
