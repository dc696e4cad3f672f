"""Calls the function on a miss: times it, has it spanned where somebody records spans, tells who warms up."""

from __future__ import annotations

from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smw._kernel.chain import Proceed
    from smw._kernel.host import Host
    from smw.cache.sight.spread import Watch

__all__ = ["LOADS", "PAST", "Loading", "passed"]

LOADS: ContextVar[list[str] | None] = ContextVar("smw_cache_loads", default=None)
"""Takes the names of the functions that are called from here on, where somebody wants to know."""
PAST = "past "
"""Stands there before the name of a function whose call went past the cache."""
_NO_SPAN = nullcontext()


def passed(function: str) -> None:
    """Tell whoever wants to know that a call of a function goes past the cache."""
    loads = LOADS.get()
    if loads is not None:
        loads.append(PAST + function)


class Loading:
    """What surrounds the calls of one function that the cache could not answer.

    Args:
        function: ``module:qualname``.
        host: Clock and spans.
        watch: Where the times go.
    """

    def __init__(self, function: str, host: Host, watch: Watch) -> None:
        self._function = function
        self._attributes = {"code.function.name": function.replace(":", ".")}
        self._now = host.clock.now
        self._spans = host.spans
        self._loads = watch.loads

    def around(self, proceed: Proceed) -> Proceed:
        """Return `proceed` with all of that around it."""

        async def load() -> Any:
            loads = LOADS.get()
            if loads is not None:
                loads.append(self._function)
            span = self._spans.around("cache load", "internal", self._attributes) if self._spans.wanted else None
            began = self._now()
            try:
                with span or _NO_SPAN:
                    return await proceed()
            finally:
                self._loads.add("load", self._now() - began)

        return load
