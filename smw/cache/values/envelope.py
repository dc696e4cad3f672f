"""The format of stored bytes: what a value carries beside itself, how it is checked; knows no store and no function.

``magic(2) version(1) encoding(1) flags(1) generations(1) created_ms(8) ttl_ms(8) fence(8) stale_ms(8) load_ms(4)``,
eight bytes for each generation, then either ``crc32(4) payload`` or ``length(1) key-id nonce(12) ciphertext``. The
check covers the full key and the header, so an entry moved to another key or edited in any bit does not open. Version 1
had neither ``stale_ms`` nor ``load_ms``; it still opens. Version 3, which only values with dependencies have, follows
the generations with ``count(2)`` and as often ``length(1) key fence(8) tags(1)`` and ``length(1) tag generation(8)``.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from smw.cache.values.codec import CorruptError

if TYPE_CHECKING:
    from smw.cache.values.seal import Seal

__all__ = ["FLAT", "MOST_BYTES", "MOST_GENERATIONS", "NESTED", "SHARED", "Dependency", "Envelope", "Letter"]

MAGIC, VERSION, VERSION_DEPENDING = b"\xa5m", 2, 3
_VERSIONS = frozenset({1, VERSION, VERSION_DEPENDING})
MOST_GENERATIONS = 200
MOST_BYTES = 64 * 2**20
"""The largest value that is stored remotely or unpacked; a small forged input must not grow beyond it."""
_COMPRESSED, _SEALED = 1, 2
_FIXED = struct.Struct(">2sBBBBQQQ")
_SINCE_2 = struct.Struct(">QI")
_COUNT_AT = 5
_WHOLE = tuple([struct.Struct(f">2sBBBBQQQQI{count}Q") for count in range(8)])
"""Everything up to the check at once, for so many generations."""
_CRC = struct.Struct(">I")
_COUNT, _NUMBER = struct.Struct(">H"), struct.Struct(">Q")
_FOREIGN = 2**64 - 1
"""Stands for a counter that somebody else has set to a number that none of ours has; what carries it never opens."""


SHARED, FLAT, NESTED = 0, 1, 2
_SHAPE_SHIFT = 2
_MOST_LOAD_MS = 2**32 - 1


class Dependency(NamedTuple):
    """A cached result that a value was made from.

    Attributes:
        key: Its full key.
        fence: Version of that key before it was loaded.
        tags: (tag, generation before it was loaded) for each of its tags that no other dependency tells.
    """

    key: str
    fence: int
    tags: tuple[tuple[str, int], ...]


class Letter(NamedTuple):
    """A payload with what readers must know to trust it.

    Attributes:
        encoding: How the payload is encoded (see `smw.cache.values.codec`).
        payload: The encoded value.
        created_ms: Wall clock of the writer when it was stored.
        ttl_ms: How long it was to live.
        fence: Version of the key that was seen before the value was loaded.
        generations: Generations of its tags that were seen before the value was loaded.
        shape: What a copy of the value takes: `SHARED`, `FLAT` or `NESTED`.
        stale_ms: How long after that it may still stand in for a load that fails.
        load_ms: How long it took to load.
        depends: The cached results that it was made from.
    """

    encoding: int
    payload: bytes
    created_ms: int
    ttl_ms: int
    fence: int
    generations: tuple[int, ...]
    shape: int = NESTED
    stale_ms: int = 0
    load_ms: int = 0
    depends: tuple[Dependency, ...] = ()

    def remaining_s(self, wall: float) -> float:
        """Return how many seconds it may still live, at most what it was given."""
        left_ms = self.created_ms + self.ttl_ms - wall * 1000
        return min(self.ttl_ms, left_ms) / 1000

    def usable_s(self, wall: float) -> float:
        """Return how many seconds it may still be of any use, standing in for a failed load included."""
        return self.remaining_s(wall) + self.stale_ms / 1000


_letter = Letter._make  # half the price of calling the class


class Envelope:
    """Packs and opens letters as the settings of one cache say; what a stored entry claims about itself never decides.

    Args:
        compress_from: Compress payloads of at least so many bytes where that makes them smaller; None never.
        seal: Encrypt everything with it, and accept nothing else.
    """

    def __init__(self, *, compress_from: int | None, seal: Seal | None) -> None:
        self._compress_from = compress_from
        self._seal = seal
        self._is_sealed = seal is not None

    def close(self, letter: Letter, key: bytes) -> bytes:
        """Return the bytes to store under `key`."""
        payload, flags = letter.payload, letter.shape << _SHAPE_SHIFT
        if self._compress_from is not None and len(payload) >= self._compress_from:
            smaller = zlib.compress(payload, 1)
            if len(smaller) < len(payload):
                payload, flags = smaller, flags | _COMPRESSED
        if self._seal is not None:
            flags |= _SEALED
        generations = tuple(map(_written, letter.generations))
        fence, times = _written(letter.fence), (letter.created_ms, letter.ttl_ms)
        version = VERSION_DEPENDING if letter.depends else VERSION
        head = _FIXED.pack(MAGIC, version, letter.encoding, flags, len(generations), *times, fence)
        head += _SINCE_2.pack(letter.stale_ms, min(letter.load_ms, _MOST_LOAD_MS))
        if generations:
            head += struct.pack(f">{len(generations)}Q", *generations)
        if letter.depends:
            head += _packed(letter.depends)
        if self._seal is None:
            return b"".join((head, _CRC.pack(crc32(payload, crc32(head, crc32(key)))), payload))
        head += bytes((len(self._seal.key_id),)) + self._seal.key_id
        return head + self._seal.seal(payload, key + b"\0" + head)

    def open(self, stored: bytes, key: bytes) -> Letter:
        """Return what was stored under `key`.

        Raises:
            CorruptError: The bytes are not ours, were changed, belong to another key, or are not sealed as they must.
        """
        try:
            fields, end = _head(stored)
            magic, version, encoding, flags, _, created_ms, ttl_ms, fence, stale_ms, load_ms, *numbers = fields
            if magic != MAGIC or version not in _VERSIONS or (flags & _SEALED != 0) is not self._is_sealed:
                raise CorruptError("header")
            generations = tuple(numbers)
            depends: tuple[Dependency, ...] = ()
            if version == VERSION_DEPENDING:
                depends, end = _unpacked(stored, end)
            payload = self._opened(stored, end, key) if self._is_sealed else _checked(stored, end, key)
        except (struct.error, IndexError, UnicodeError) as error:
            raise CorruptError("length" if stored[: len(MAGIC)] == MAGIC else "header") from error
        if fence == _FOREIGN or _FOREIGN in generations:
            raise CorruptError("counter")
        if flags & _COMPRESSED:
            payload = _decompressed(payload)
        shape = flags >> _SHAPE_SHIFT
        return _letter((encoding, payload, created_ms, ttl_ms, fence, generations, shape, stale_ms, load_ms, depends))

    def _opened(self, stored: bytes, end: int, key: bytes) -> bytes:
        start = end + 1 + stored[end]
        key_id, seal = stored[end + 1 : start], self._seal
        plain = None if seal is None else seal.open(key_id, stored, start, b"%b\0%b" % (key, stored[:start]))
        if plain is None:
            raise CorruptError("seal" if seal is not None and seal.knows(key_id) else "unknown key")
        return plain


def _head(stored: bytes) -> tuple[tuple[Any, ...], int]:
    """Return the fields up to the check, generations last, and where they end."""
    count = stored[_COUNT_AT]
    if count < len(_WHOLE) and stored[2] != 1:
        whole = _WHOLE[count]
        return whole.unpack_from(stored), whole.size
    fields, end = _FIXED.unpack_from(stored), _FIXED.size
    more = (0, 0)
    if fields[1] != 1:
        more, end = _SINCE_2.unpack_from(stored, end), end + _SINCE_2.size
    return (*fields, *more, *struct.unpack_from(f">{count}Q", stored, end)), end + 8 * count


def _packed(depends: tuple[Dependency, ...]) -> bytes:
    parts = [_COUNT.pack(len(depends))]
    for each in depends:
        parts += [_named(each.key, each.fence), bytes((len(each.tags),))]
        parts += [_named(tag, number) for tag, number in each.tags]
    return b"".join(parts)


def _named(name: str, number: int) -> bytes:
    text = name.encode("ascii")
    return bytes((len(text),)) + text + _NUMBER.pack(_written(number))


def _unpacked(stored: bytes, at: int) -> tuple[tuple[Dependency, ...], int]:
    """Return the dependencies that begin at `at`, and where they end."""

    def name() -> tuple[str, int]:
        nonlocal at
        begins, ends = at + 1, at + 1 + stored[at]
        number, at = _NUMBER.unpack_from(stored, ends)[0], ends + _NUMBER.size
        if number == _FOREIGN:
            raise CorruptError("counter")
        return stored[begins:ends].decode("ascii"), number

    depends, count = [], _COUNT.unpack_from(stored, at)[0]
    at += _COUNT.size
    for _ in range(count):
        key, fence = name()
        tags, at = stored[at], at + 1
        depends.append(Dependency(key, fence, tuple([name() for _ in range(tags)])))
    return tuple(depends), at


def _written(counter: int) -> int:
    return counter if 0 <= counter < _FOREIGN else _FOREIGN


def _checked(stored: bytes, end: int, key: bytes) -> bytes:
    payload = stored[end + 4 :]
    if _CRC.unpack_from(stored, end)[0] != crc32(payload, crc32(stored[:end], crc32(key))):
        raise CorruptError("checksum")
    return payload


def _decompressed(payload: bytes) -> bytes:
    machine = zlib.decompressobj()
    try:
        plain = machine.decompress(payload, MOST_BYTES)
    except zlib.error as error:
        raise CorruptError("compression") from error
    if not machine.eof:
        raise CorruptError("compression")
    return plain
