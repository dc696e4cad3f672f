"""Decides how long a loaded value lives; knows no level."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

from smw._kernel.answers import answered
from smw._kernel.process import ForkLock
from smw.cache.options import life_of
from smw.cache.values.codec import UnstorableError
from smw.cache.values.forms import Packing

if TYPE_CHECKING:
    from collections.abc import Hashable

    from smw._kernel.clock import Entropy
    from smw.cache.functions.remarks import Remarks
    from smw.cache.options import Auto, Options
    from smw.cache.values.codec import Codec

__all__ = ["Learned", "Lifetimes"]

_MOST_KEYS = 10_000


class Lifetimes:
    """How long the results of one function live.

    Args:
        options: What the decorator was told.
        jitter: The largest share by which a life is shortened, so that what was stored together does not end together.
        entropy: Where chance comes from.
        codec: Tells equal values.
        remarks: Told of results whose life cannot be told.
    """

    def __init__(self, options: Options, *, jitter: float, entropy: Entropy, codec: Codec, remarks: Remarks) -> None:
        self._options = options
        self._jitter = jitter
        self._random = entropy.random
        self._remarks = remarks
        self._learned = None if options.auto is None else Learned(options.auto, codec)

    def of(self, key: Hashable, value: Any, packing: Packing | None = None) -> float:
        """Return the seconds that the `value` of `key`, which `packing` packs, lives; 0 if it is not kept."""
        options = self._options
        if options.unless is not None and self._is_rejected(value):
            return 0.0
        if value is None and options.negative_ttl_s is not None:
            return self.shortened(options.negative_ttl_s)
        if self._learned is not None:
            return self.shortened(self._learned.next(key, value, packing))
        return self.shortened(self._told(value) if options.ttl_s is None else options.ttl_s)

    def shortened(self, ttl_s: float) -> float:
        """Return a life with its share of chance taken off."""
        return ttl_s * (1 - self._jitter * self._random()) if self._jitter else ttl_s

    def _told(self, value: Any) -> float:
        """Ask the user's function; what it cannot answer is not kept."""
        try:
            given = answered(self._options.ttl_of(value)) if self._options.ttl_of is not None else None
            seconds = life_of(given)
            if seconds is not None and seconds >= 0:  # which NaN is not
                return seconds
            what = f"it returned {given!r:.40}"
        except Exception as error:  # noqa: BLE001 - the function itself has succeeded
            what = type(error).__name__
        self._remarks.uncached("failing-ttl", what)
        return 0.0

    def _is_rejected(self, value: Any) -> bool:
        try:
            return self._options.unless is not None and bool(answered(self._options.unless(value)))
        except Exception as error:  # noqa: BLE001 - the function itself has succeeded
            self._remarks.uncached("failing-unless", type(error).__name__)
            return True


class Learned:
    """Times to live that follow how often the values of each key change, of the keys that were loaded last.

    Args:
        bounds: What they keep within.
        codec: Values are equal if their bytes are.
    """

    def __init__(self, bounds: Auto, codec: Codec) -> None:
        self._bounds = bounds
        self._codec = codec
        self._lock = ForkLock()
        self._known: dict[Hashable, tuple[bytes, float]] = {}

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._known)

    def next(self, key: Hashable, value: Any, packing: Packing | None = None) -> float:
        """Return the time to live of a value that was just loaded, and that `packing` packs."""
        least, most = self._bounds.min_s, self._bounds.max_s
        mark = _mark(packing or Packing(value, self._codec))
        with self._lock:
            before = self._known.pop(key, None)  # to stand last again
            ttl_s = math.sqrt(least * most) if before is None else before[1]
            if before is not None and mark and before[0]:
                ttl_s = min(most, ttl_s * 2) if mark == before[0] else max(least, ttl_s / 2)
            self._known[key] = mark, ttl_s
            if len(self._known) > _MOST_KEYS:
                del self._known[next(iter(self._known))]
        return ttl_s


def _mark(packing: Packing) -> bytes:
    """Return what equal values have in common; nothing for one that has no form as bytes, which teaches nothing."""
    try:
        encoding, payload = packing.pack()
    except UnstorableError:
        return b""
    return hashlib.blake2b(payload, digest_size=8, salt=bytes((encoding,))).digest()
