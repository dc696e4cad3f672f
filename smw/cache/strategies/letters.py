"""Packs arguments and value of a write for the journal, sealed where the cache's values are; knows no journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from smw._kernel.reference import resolve
from smw.cache.naming.arguments import name_of
from smw.cache.values.codec import Codec, CorruptError, UnstorableError
from smw.cache.values.envelope import Letter
from smw.cache.values.typed import Classes, argument_classes, declared_classes
from smw.errors import ConfigError

if TYPE_CHECKING:
    from smw._kernel.call import Call, Target
    from smw._kernel.clock import Clock
    from smw.cache.functions.function import CachedFunction
    from smw.cache.values.envelope import Envelope

__all__ = ["Letters"]

_CLASS = "class"
_FIX_ARGUMENTS = (
    "take plain values, and dataclasses, named tuples or pydantic models that the parameters are annotated with; give "
    "connections and sessions to the function in another way, or use strategy='write_through'"
)
_FIX_VALUE = "return plain values from value=, or annotate what the cached function returns; or use 'write_through'"


class Letters:
    """Makes and opens what the journal keeps.

    Args:
        envelope: How bytes are compressed, checked and sealed.
        clock: Stamps them.
        allow_pickle: As for cached values.
    """

    def __init__(self, envelope: Envelope, clock: Clock, *, allow_pickle: bool) -> None:
        self._envelope = envelope
        self._clock = clock
        self._allow_pickle = allow_pickle
        self._codecs: WeakKeyDictionary[Target | CachedFunction, Codec] = WeakKeyDictionary()

    def _of_arguments(self, target: Target) -> Codec:
        codec = self._codecs.get(target)
        if codec is None:
            owner = resolve(target.name.rpartition(".")[0]) if target.is_method else None
            found = argument_classes(target.fn, owner if isinstance(owner, type) else None)
            codec = self._codecs[target] = Codec(Classes(found), allow_pickle=self._allow_pickle)
        return codec

    def _of_value(self, function: CachedFunction) -> Codec:
        codec = self._codecs.get(function)
        if codec is None:
            classes = Classes(declared_classes(function.target.fn))
            codec = self._codecs[function] = Codec(classes, allow_pickle=self._allow_pickle)
        return codec

    def arguments(self, call: Call, key: str) -> bytes:
        """Return the arguments of a call.

        Raises:
            ConfigError: They have no form as bytes.
        """
        target, args, holder = call.target, list(call.args), None
        if args and isinstance(args[0], type) and target.parameters[:1] == ("cls",) and name_of(args[0]) is not None:
            holder, args = name_of(args[0]), args[1:]
        try:
            packed = self._of_arguments(target).pack([args, dict(call.kwargs), holder])
        except UnstorableError as error:
            what = f"the arguments of {target.qualname} cannot be written down to be written later: {error.what}"
            raise ConfigError("SMW-C149", what, fix=_FIX_ARGUMENTS) from None
        return self._closed(packed, _sealed_to(key, target.name))

    def opened_arguments(self, target: Target, key: str, blob: bytes) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments that were packed.

        Raises:
            CorruptError: They are none, or of classes that are others now.
        """
        letter = self._envelope.open(blob, _sealed_to(key, target.name))
        args, kwargs, holder = self._of_arguments(target).unpack(letter.encoding, letter.payload)
        if holder is not None:
            found = resolve(holder)
            if found is None:
                raise CorruptError(_CLASS)
            args = [found, *args]
        return args, kwargs

    def value(self, function: CachedFunction, value: Any, key: str) -> bytes:
        """Return a value that readers are to see.

        Raises:
            ConfigError: It has no form as bytes.
        """
        try:
            packed = self._of_value(function).pack(value)
        except UnstorableError as error:
            what = f"the value of {function.target.qualname} cannot be written down to be written later: {error.what}"
            raise ConfigError("SMW-C149", what, fix=_FIX_VALUE) from None
        return self._closed(packed, key.encode())

    def opened_value(self, function: CachedFunction, key: str, blob: bytes) -> Any:
        """Return the value that was packed.

        Raises:
            CorruptError: It is none.
        """
        letter = self._envelope.open(blob, key.encode())
        return self._of_value(function).unpack(letter.encoding, letter.payload)

    def _closed(self, packed: tuple[int, bytes], sealed_to: bytes) -> bytes:
        return self._envelope.close(Letter(*packed, int(self._clock.wall() * 1000), 1, 0, ()), sealed_to)


def _sealed_to(key: str, writer: str) -> bytes:
    return f"{key} {writer}".encode("utf-8", "surrogatepass")
