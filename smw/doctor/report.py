"""What one check found and what all of them mean together; knows no check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["SCHEMA", "VERDICTS", "Finding", "Report", "Verdict"]

Verdict = Literal["ok", "warn", "fail", "not checked"]
VERDICTS: tuple[Verdict, ...] = ("ok", "warn", "fail", "not checked")
SCHEMA = 1
"""Of the JSON form; a change that readers would notice raises it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Args:
        name: What was checked, such as ``cache.l2.connect``; stable.
        verdict: ``ok``, ``warn``, ``fail`` or ``not checked``.
        seen: What was found, without secrets.
        fix: What to do, with the setting that holds the cause; "" where nothing is to be done.
    """

    name: str
    verdict: Verdict
    seen: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings of one examination.

    Args:
        profile: Profile of the settings that were examined, "" where they could not be read.
        findings: In the order of the checks.
    """

    profile: str
    findings: tuple[Finding, ...]

    def counts(self) -> dict[Verdict, int]:
        """Return how many findings have each verdict."""
        return {verdict: sum(finding.verdict == verdict for finding in self.findings) for verdict in VERDICTS}

    @property
    def exit_code(self) -> int:
        """0 when all is well, 1 with a problem, 3 when no problem was found but not all could be checked."""
        counts = self.counts()
        if counts["fail"]:
            return 1
        return 3 if counts["not checked"] else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "schema": SCHEMA,
            "profile": self.profile,
            "exit": self.exit_code,
            "counts": self.counts(),
            "checks": [asdict(finding) for finding in self.findings],
        }
