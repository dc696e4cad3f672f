"""Appends one record, trying again within a bound while the stream is full or away; knows no handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw._kernel.guard import Budget
from smw.errors import BackpressureError, Unavailable

if TYPE_CHECKING:
    from smw._kernel.clock import Clock
    from smw.pipeline.ports import Entry, Stream
    from smw.pipeline.retry import Backoff

__all__ = ["append"]

_PAUSE_S = 0.01


async def append(stream: Stream, entry: Entry, *, clock: Clock, backoff: Backoff, timeout_s: float) -> str:
    """Append `entry` and return its position.

    Raises:
        BackpressureError: It was not accepted within `timeout_s`. A store that lost the connection while it answered
            may have it all the same: at least once, never at most once.
    """
    budget = Budget(clock, timeout_s)
    while True:
        try:
            return (await stream.append([entry]))[0]
        except BackpressureError as error:
            full, wait_s = error, _PAUSE_S
        except Unavailable as error:
            full = BackpressureError(
                "SMW-P130",
                f"the stream {stream.name!r} accepted nothing within {timeout_s:g} s",
                seen=error.what,
                fix="see that the store runs; pipeline setting emit_timeout_s says how long emit waits",
            )
            wait_s = backoff.next_s()
        left_s = budget.left_s()
        if left_s <= 0:
            raise full
        await clock.sleep(min(wait_s, left_s))
