"""What the demo found out, and which of its promises that keeps or breaks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from examples.music_agent import evidence
from examples.music_agent.figures import Figures
from examples.music_agent.replay import Replay
from examples.music_agent.service import Service
from smw import security

_AUDITED = {"playlist", "export", "payment"}
_TELLING = 100  # lookups without a single hit that cannot be chance


@dataclass(slots=True)
class Findings:
    """Everything that the report shows.

    Args:
        source: Where the traffic comes from.
        sent: Events sent.
        poison: How many of them no handler can take.
        phases: The service's metrics at the end of each of its lives.
    """

    source: str
    sent: int
    poison: int
    phases: list[Figures] = field(default_factory=list)
    replay: Replay = field(default_factory=Replay)
    spans: Counter[str] | None = field(default_factory=Counter)
    backends: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    verification: security.Verification | None = None
    records: Counter[str] = field(default_factory=Counter)
    tamperings: list[evidence.Tampering] = field(default_factory=list)
    denied: str = ""
    allowed: bool = False
    plays: int = 0
    rows: int = 0
    took_s: float = 0.0

    @property
    def figures(self) -> Figures:
        """The metrics of all lives of the service together."""
        return sum(self.phases, Figures())

    @property
    def outcomes(self) -> dict[str, int]:
        """What became of the records of the stream."""
        return self.figures.by("smw_stream_records_total", "outcome")

    def add(self, result: Replay, figures: Figures, service: Service) -> None:
        """Take in one life of the service, once it has stopped."""
        said = service.last_words
        self.replay.add(result)
        self.phases.append(figures)
        self.backends = said["backends"]
        self.log = service.log.read_text(encoding="utf-8").splitlines()
        if said["spans"] is None:
            self.spans = None
        elif self.spans is not None:
            self.spans.update(said["spans"])

    def audit(self, trail: Path, earlier: Path, scratch: Path, key: Path | None) -> None:
        """Take in the audit log, once the service has stopped; see `evidence.tamper`."""
        self.verification = security.verify(trail, key=key)
        self.records = evidence.kinds(trail)
        self.tamperings = evidence.tamper(trail, earlier, scratch, key)

    def promises(self) -> dict[str, bool]:
        """Return each promise with whether it was kept."""
        calls = sum(sample.kind in _AUDITED for sample in self.replay.samples)
        outcomes = self.outcomes
        return {
            "every answer was right": not self.replay.wrong,
            "a write is seen by the next read": not any("lacks" in text for text in self.replay.wrong),
            "every cache level that is on answered": all(map(self._answered, ("l1", "l2", "l3"))),
            "every audited call is recorded": self.records["outcome"] + self.records["denied"] >= calls,
            "the audit log verifies": bool(self.verification),
            "every tampering was found": all(tampering.found for tampering in self.tamperings),
            "production denies what development reports": bool(self.denied) and self.allowed,
            "no event was lost": self.plays == self.sent - self.poison,
            "every poison event is a dead letter": outcomes.get("dead", 0) == self.poison,
            "the job wrote a row for each play": self.rows == self.plays,
        }

    def _answered(self, level: str) -> bool:
        hits, asked = self.figures.hits(level)
        return self.backends.get(level) == "off" or hits > 0 or asked < _TELLING

    def broken(self) -> list[str]:
        """Return the promises that were not kept."""
        return [promise for promise, kept in self.promises().items() if not kept]
