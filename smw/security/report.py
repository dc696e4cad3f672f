"""Counts what the controls said since the part was opened, for people to read; it decides nothing."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from smw.security.compliance.engine import Failure

__all__ = ["Finding", "Report", "Tally"]

Outcome = Literal["denied", "shadowed"]
_FINDINGS_MAX = 1_000


class Finding(NamedTuple):
    """One reason why calls of one function were, or would have been, denied.

    Args:
        fn: The function, `module:qualname`.
        control: Id of the control.
        clause: Its clause.
        missing: What is missing.
        outcome: `denied` under enforcement, `shadowed` where the call ran all the same.
    """

    fn: str
    control: str
    clause: str
    missing: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Report:
    """What the controls said in this process.

    Args:
        judged: Function → calls that were judged.
        findings: Each reason and how often it came up, most frequent first.
        unrecorded: Calls that ran although the audit log could not take their record.
    """

    judged: dict[str, int]
    findings: tuple[tuple[Finding, int], ...]
    unrecorded: int

    @property
    def denied(self) -> int:
        """Refusals, counted by control."""
        return sum(count for finding, count in self.findings if finding.outcome == "denied")

    @property
    def shadowed(self) -> int:
        """Refusals that were only watched, counted by control."""
        return sum(count for finding, count in self.findings if finding.outcome == "shadowed")

    def __str__(self) -> str:
        """Return one line for each finding."""
        words = {"denied": "denied", "shadowed": "would have been denied"}
        lines = [f"{sum(self.judged.values())} calls of {len(self.judged)} functions were judged."]
        for finding, count in self.findings:
            outcome = words[finding.outcome]
            lines.append(f"{count}x {finding.fn} {outcome} by {finding.control} ({finding.clause}): {finding.missing}")
        if self.unrecorded:
            lines.append(f"{self.unrecorded} calls ran without a record because the audit log failed.")
        return "\n".join(lines)


class Tally:
    """The counters behind a report; bounded, safe under threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._judged: Counter[str] = Counter()
        self._findings: Counter[Finding] = Counter()
        self._unrecorded = 0

    def judged(self, fn: str) -> None:
        """Count one judged call."""
        with self._lock:
            self._judged[fn] += 1

    def failed(self, fn: str, failure: Failure, outcome: Outcome) -> bool:
        """Count one failure of a control; tells whether it is the first of its kind."""
        finding = Finding(fn, *failure, outcome)
        with self._lock:
            known = finding in self._findings
            if known or len(self._findings) < _FINDINGS_MAX:
                self._findings[finding] += 1
            return not known

    def unrecorded(self) -> None:
        """Count one call that ran without its record."""
        with self._lock:
            self._unrecorded += 1

    def report(self) -> Report:
        """Return what was counted so far."""
        with self._lock:
            return Report(dict(self._judged), tuple(self._findings.most_common()), self._unrecorded)

    def after_fork(self) -> None:
        """Drop a lock that another thread of the parent may have held."""
        self._lock = threading.Lock()
