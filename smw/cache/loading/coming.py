"""Which calls of one function may still come to a load of their own; knows neither what is loaded nor how."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smw._kernel.call import Call

__all__ = ["Coming"]


class Coming:
    """The calls that have begun in each event loop and are not known yet to load, to wait, or to need neither."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.AbstractEventLoop, dict[Call, int]] = {}
        self._loops: dict[Call, asyncio.AbstractEventLoop] = {}
        self._begun = 0

    def begin(self, call: Call) -> None:
        """Note that a call of the running event loop has begun."""
        loop = self._loops[call] = asyncio.get_running_loop()
        self._begun += 1
        self._calls.setdefault(loop, {})[call] = self._begun

    def end(self, call: Call) -> asyncio.AbstractEventLoop | None:
        """Note that a call loads by now, or will not; returns its event loop if that was not known before."""
        loop = self._loops.pop(call, None)
        if loop is not None:
            calls = self._calls[loop]
            del calls[call]
            if not calls:
                del self._calls[loop]
        return loop

    def now(self) -> int:
        """Return the number of the call that began last, in whatever loop."""
        return self._begun

    def any_until(self, number: int, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether a call of a loop that began no later is still to come."""
        calls = self._calls.get(loop)
        return calls is not None and next(iter(calls.values())) <= number  # in the order in which they began
