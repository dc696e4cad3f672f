"""The figures of one stream or batch job, as plain numbers that are read only when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smw._kernel.facts import Fact

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Tally"]

_RECORDS = "Records of a stream by what became of them."
_IN_FLIGHT = "Records fetched and not yet settled."
_LAG = "Records of a stream that nobody has settled, as last measured."


class Tally:
    """What happened on one stream since the start."""

    __slots__ = ("dead", "done", "emitted", "in_flight", "lag", "lost", "retried", "skipped", "stream")

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.emitted = self.done = self.retried = self.dead = self.skipped = self.lost = self.in_flight = 0
        self.lag: int | None = None

    def facts(self) -> Iterable[Fact]:
        """Yield the figures with their names."""
        stream = ("stream", self.stream)
        for outcome in ("emitted", "done", "retried", "dead", "skipped", "lost"):
            labels = (stream, ("outcome", outcome))
            yield Fact("smw_stream_records_total", "counter", _RECORDS, labels, getattr(self, outcome))
        yield Fact("smw_stream_in_flight", "gauge", _IN_FLIGHT, (stream,), self.in_flight)
        if self.lag is not None:
            yield Fact("smw_stream_lag_records", "gauge", _LAG, (stream,), self.lag)
