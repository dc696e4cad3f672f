"""A stream over any iterable, and what came of it, so that a handler runs over records without a broker."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from smw.errors import RecordError
from smw.pipeline.ports import Ended, Entry, Record

if TYPE_CHECKING:
    from smw._kernel.clock import Clock
    from smw.pipeline.deadletter import DeadLetter

__all__ = ["IterableStream", "RunSummary"]


@dataclass(slots=True)
class RunSummary:
    """What became of the records of one run.

    Args:
        name: The job.
        done: Records that were handled.
        retried: Attempts that failed and were made again.
        dead: Records that were given up, each whole and with the reason.
        results: What the handler returned, in the order of the records (None for dead ones); None unless asked for.
    """

    name: str
    done: int = 0
    retried: int = 0
    dead: list[DeadLetter] = field(default_factory=list)
    results: list[Any] | None = None


class IterableStream:
    """Records from an iterable or async iterable, once through; its dead letters are kept in a list.

    Args:
        name: Name of the job.
        records: Values as a handler takes them, or bytes as they would come from a stream.
        clock: Stamps the records.
        key: Takes a value and returns its key; values without key have no order among each other.
        most_dead: Dead letters kept; one more ends the run, since so many mean that the handler is broken.
    """

    kind = "iterable"

    def __init__(
        self,
        name: str,
        records: Iterable[Any] | AsyncIterable[Any],
        *,
        clock: Clock,
        key: Callable[[Any], str | None] | None = None,
        most_dead: int,
    ) -> None:
        self.name = name
        self.lag: int | None = None
        self.dead_letters: list[DeadLetter] = []
        self._clock = clock
        self._key = key
        self._most_dead = most_dead
        self.taken = 0
        self._async: AsyncIterator[Any] | None = None
        if isinstance(records, AsyncIterable):
            self._async = aiter(records)
        else:
            self._sync = iter(records)

    def on_revoke(self, lost: Callable[[Collection[str]], Collection[str]]) -> None:
        """Do nothing: there are no other readers."""

    async def poll(self, max_records: int, wait_s: float) -> Sequence[Record]:  # noqa: ARG002 - it has no silence
        """Return the next records; from an async iterable one at a time, as it yields them."""
        await self._clock.sleep(0)
        if self._async is not None:
            try:
                values = [await anext(self._async)]
            except StopAsyncIteration:
                values = []
        else:
            values = list(islice(self._sync, max_records))
        if not values:
            raise Ended
        now, start = self._clock.wall(), self.taken
        self.taken += len(values)
        key = self._key or _no_key
        return [Record(str(start + n), value, key(value), at=now) for n, value in enumerate(values)]

    async def settle(self, positions: Sequence[str]) -> None:
        """Do nothing: what was taken from an iterable is gone from it."""

    async def defer(self, position: str, attempt: int) -> None:
        """Do nothing: nobody takes over."""

    async def dead(self, record: Record, letter: DeadLetter) -> None:  # noqa: ARG002 - the letter has it all
        """Keep the letter."""
        if len(self.dead_letters) >= self._most_dead:
            raise RecordError(
                "SMW-P141",
                f"{self.name!r} stopped: more than {self._most_dead} records were given up",
                seen=letter.error,
                fix="mend the handler, or raise pipeline setting stream_buffer_size",
            )
        self.dead_letters.append(letter)

    async def append(self, entries: Sequence[Entry]) -> Sequence[str]:
        """Refuse: an iterable cannot be appended to."""
        raise RecordError("SMW-P142", f"{self.name!r} runs over an iterable; {len(entries)} records cannot be appended")

    async def letters(self, limit: int) -> Sequence[DeadLetter]:
        """Return the oldest dead letters."""
        return self.dead_letters[:limit]

    async def tend(self) -> None:
        """Do nothing: there are no other readers."""

    async def close(self) -> None:
        """Close an async generator."""
        if (close := getattr(self._async, "aclose", None)) is not None:
            await close()


def _no_key(_value: Any) -> None:
    return None
