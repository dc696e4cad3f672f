"""Decides in which forms one value is kept: for memory, for servers, for other callers; does no I/O."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from smw.cache.values.codec import UnstorableError
from smw.cache.values.copies import FLAT_COPIES, PLAIN, Held, Survey, UncopyableError, hold, survey
from smw.cache.values.envelope import FLAT, MOST_BYTES, NESTED, SHARED, Letter

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from smw.cache.coherence.depending import Origin
    from smw.cache.levels.memory import Entry
    from smw.cache.values.codec import Codec

__all__ = ["Finding", "Forms", "Packing", "Policy", "forms_of", "held_of"]

Packed = tuple[int, bytes]
_COLLECTIONS = frozenset({dict, list, set, tuple, frozenset})
_OBJECT_BYTES = 36
"""What an object takes beyond its form as bytes, most of those that are small and many."""
_PACKED_BYTES = sys.getsizeof(b"") + sys.getsizeof((0, b""))


class Packing:
    """The form of one value as bytes, which is made at most once, whoever needs it first.

    Args:
        value: The value.
        codec: Makes it.
    """

    __slots__ = ("_codec", "_made", "_value")

    def __init__(self, value: Any, codec: Codec) -> None:
        self._value = value
        self._codec = codec
        self._made: Packed | UnstorableError | None = None

    def pack(self, found: Survey | None = None) -> Packed:
        """Return (encoding, payload), as `Codec.pack` does.

        Raises:
            UnstorableError: It has none.
        """
        if self._made is None:
            try:
                self._made = self._codec.pack(self._value, found)
            except UnstorableError as error:
                self._made = error
        if isinstance(self._made, UnstorableError):
            raise self._made
        return self._made


class Policy(NamedTuple):
    """How the values of one function or region are kept.

    Attributes:
        ttl_s: Time to live, as far as it is one for all of them.
        copy: ``auto``, ``share``, ``deep`` or ``decode``.
        in_memory: Whether memory keeps them.
        names: Levels behind memory that may keep them.
        codec: Their form as bytes.
        life: From a key, its value and what packs that to the seconds that it lives; None: `ttl_s`.
        l1_ttl_s: The longest that memory keeps one.
        stale_s: How long after that one may stand in for a load that fails.
        ahead: After which share of its life one is loaded anew; 0.0: as chance will have it; None: when it has expired.
        is_of_fleet: Whether one process loads for all.
        is_gathered: Whether what is loaded at one moment is loaded with one call.
        most_bytes: The largest result that memory has room for.
        is_off: Whether the cache is switched off, so that every call goes past it.
    """

    ttl_s: float
    copy: str
    in_memory: bool
    names: tuple[str, ...]
    codec: Codec
    life: Callable[[Hashable, Any, Packing | None], float] | None = None
    l1_ttl_s: float = float("inf")
    stale_s: float = 0.0
    ahead: float | None = None
    is_of_fleet: bool = False
    is_gathered: bool = False
    most_bytes: float = float("inf")
    is_off: bool = False

    def lasts(self, key: Hashable, value: Any, packing: Packing | None = None) -> float:
        """Return the seconds that `value` lives; 0 if it is not kept."""
        return self.ttl_s if self.life is None else self.life(key, value, packing)


class Forms(NamedTuple):
    """The forms of one loaded value.

    Attributes:
        held: For memory; None where it cannot be copied.
        packed: (encoding, payload) for servers; None where it has no exact form as bytes, or none is needed.
        shape: What a copy of it takes.
        refused: (reason, type) of what could not be made.
    """

    held: Held | None
    packed: Packed | None
    shape: int
    refused: tuple[str, str] | None


class Finding:
    """A value that was found or loaded, to be handed to one caller as it is and to others as copies.

    Args:
        level: ``l1``, ``l2``, ``l3``, or "" where the function was called.
        missed: Levels that were asked in vain.
        first: The value, or nothing where everybody gets a copy.
        copy: Makes a copy; None where it cannot be copied.
        refused: Why it was not kept as asked: (reason, type).
        is_stale: It has expired, and stands in for a load that failed.
        origin: Where it comes from, for results that are made from it; None where nobody knows.
        lives: Whether it has a time to live at all, so that it takes the place of what was there before.
    """

    __slots__ = ("_copy", "_first", "is_stale", "level", "lives", "missed", "origin", "refused")

    def __init__(
        self,
        level: str,
        *,
        copy: Callable[[], Any] | None,
        first: tuple[Any, ...] = (),
        missed: tuple[str, ...] = (),
        refused: tuple[str, str] | None = None,
        is_stale: bool = False,
        origin: Entry | Origin | None = None,
        lives: bool = True,
    ) -> None:
        self.level = level
        self.lives = lives
        self.missed = missed
        self.refused = refused
        self.is_stale = is_stale
        self.origin = origin
        self._first = list(first)
        self._copy = copy

    def take(self) -> tuple[bool, Any]:
        """Return (True, a value of the caller's own), or (False, None) where there was one only and it is taken."""
        try:
            return True, self._first.pop()
        except IndexError:
            pass  # making a copy may raise what was kept, which must not seem to come from here
        return (False, None) if self._copy is None else (True, self._copy())


def _unpacker(codec: Codec) -> Callable[[Packed], Any]:
    return lambda packed: codec.unpack(*packed)


def _shape(value: Any, found: Survey) -> int:
    if found.foreign:
        return NESTED
    if not found.mutable:
        return SHARED
    return FLAT if type(value) in FLAT_COPIES and not found.nested else NESTED


def forms_of(value: Any, policy: Policy, *, for_servers: bool, packing: Packing | None = None) -> Forms:
    """Return the forms of a value that a function has returned.

    Args:
        value: The value, which its caller may change afterwards.
        policy: How it is kept.
        for_servers: Whether its form as bytes is needed.
        packing: What packs it, where somebody may have had it packed already.
    """
    found = survey(value)
    held = packed = refused = None
    if for_servers or policy.copy == "decode":
        try:
            packed = policy.codec.pack(value, found) if packing is None else packing.pack(found)
            if len(packed[1]) > MOST_BYTES:
                packed, refused = None, ("huge-result", type(value).__name__)
        except UnstorableError as error:
            refused = error.reason, error.what
    if policy.copy == "decode" or not policy.in_memory:
        held = None if packed is None else Held(packed, _unpacker(policy.codec), len(packed[1]))
    else:
        try:
            held = hold(value, policy.copy, found)
        except UncopyableError as error:
            refused = error.reason, error.what
    if held is not None and policy.in_memory and held.size > policy.most_bytes:
        refused = refused or ("large-result", type(value).__name__)
    return Forms(held, packed, _shape(value, found), refused)


def held_of(value: Any, letter: Letter, policy: Policy) -> Held:
    """Return the form for memory of a value that came as bytes."""
    size = len(letter.payload)
    if policy.copy == "share" or (policy.copy == "auto" and letter.shape == SHARED):
        return Held(value, None, _unpacked_bytes(value, size))
    if policy.copy == "auto" and letter.shape == FLAT and value.__class__ in FLAT_COPIES:
        copy = FLAT_COPIES[value.__class__]
        return Held(copy(value), copy, _unpacked_bytes(value, size))
    return Held((letter.encoding, letter.payload), _unpacker(policy.codec), size + _PACKED_BYTES)


def _unpacked_bytes(value: Any, payload_bytes: int) -> int:
    """Return about what a value takes that came as so many bytes, without looking at what is in it."""
    kind: Any = value.__class__
    if kind in PLAIN:
        return sys.getsizeof(value)
    if kind in _COLLECTIONS:
        return sys.getsizeof(value) + payload_bytes + _OBJECT_BYTES * len(value)
    return payload_bytes + _OBJECT_BYTES
