"""Decides how long a loaded value lives; knows no level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from smw._kernel.clock import Entropy
    from smw.cache.options import Options
    from smw.cache.remarks import Remarks

__all__ = ["Lifetimes"]


class Lifetimes:
    """How long the results of one function live.

    Args:
        options: What the decorator was told.
        jitter: The largest share by which a life is shortened, so that what was stored together does not end together.
        entropy: Where chance comes from.
        remarks: Told of results whose life cannot be told.
    """

    def __init__(self, options: Options, *, jitter: float, entropy: Entropy, remarks: Remarks) -> None:
        self._options = options
        self._jitter = jitter
        self._random = entropy.random
        self._remarks = remarks

    def of(self, key: Hashable, value: Any) -> float:  # noqa: ARG002
        """Return the seconds that `value` lives; 0 if it is not kept."""
        options = self._options
        if options.unless is not None and self._is_rejected(value):
            return 0.0
        if value is None and options.negative_ttl_s is not None:
            return self.shortened(options.negative_ttl_s)
        return self.shortened(options.ttl_s)

    def shortened(self, ttl_s: float) -> float:
        """Return a life with its share of chance taken off."""
        return ttl_s * (1 - self._jitter * self._random()) if self._jitter else ttl_s

    def _is_rejected(self, value: Any) -> bool:
        try:
            return self._options.unless is not None and bool(self._options.unless(value))
        except Exception as error:  # noqa: BLE001 - the function itself has succeeded
            self._remarks.uncached("failing-unless", type(error).__name__)
            return True
