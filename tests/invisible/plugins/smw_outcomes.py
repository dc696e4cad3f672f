"""A pytest plugin that writes how every test ended, and why one failed, into the file named by INVISIBLE_RESULT.

It is loaded into other projects' suites with and without smw, so it imports nothing of either.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

_RANK = ("passed", "xfailed", "skipped", "xpassed", "failed", "error")
_outcomes: dict[str, str] = {}
_reasons: dict[str, str] = {}


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    if report.failed and report.when != "call":
        return "error"
    return report.outcome


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the worst of setup, call and teardown."""
    outcome = _outcome(report)
    before = _outcomes.get(report.nodeid, "passed")
    _outcomes[report.nodeid] = max(before, outcome, key=_RANK.index)
    if report.failed:
        _reasons[report.nodeid] = report.longreprtext


def pytest_sessionfinish() -> None:
    """Write it down."""
    text = json.dumps({"outcomes": _outcomes, "reasons": _reasons})
    Path(os.environ["INVISIBLE_RESULT"]).write_text(text, encoding="utf-8")
