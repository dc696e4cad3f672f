"""Runs a suite in a process of its own and returns how its tests ended; compares nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from smw.environment import variables
from tests.invisible.suites import Suite

__all__ = ["BrokenRunError", "Run", "run"]

PLUGINS = Path(__file__).resolve().parent / "plugins"
# Plugins of the environment that the suite does not know of; the suite's own settings stay as they are.
_OFF = ("cacheprovider", "smw", "asyncio", "hypothesispytest")
_RAN = (0, 1)
_MOST_S = 900


class BrokenRunError(Exception):
    """The suite could not be run to its end; the text is the end of what it said."""


@dataclass(frozen=True)
class Run:
    """One run of a suite.

    Args:
        outcomes: Id of each test → how it ended.
        reasons: Id of each failed test → why.
        through: How many scopes of each kind passed through smw.
        tests: How many tests had smw in them.
        complaints: Errors that smw logged, each with the test it was in.
    """

    outcomes: dict[str, str]
    reasons: dict[str, str]
    through: dict[str, int] = field(default_factory=dict)
    tests: int = 0
    complaints: list[str] = field(default_factory=list)

    @property
    def counts(self) -> str:
        """How many tests ended how, in words."""
        counted = Counter(self.outcomes.values())
        return ", ".join(f"{counted[outcome]} {outcome}" for outcome in sorted(counted, key=counted.__getitem__)[::-1])


def run(suite: Suite, source: Path, way: str | None) -> Run:
    """Run the tests of `source`.

    Args:
        suite: Whose tests they are.
        source: The unpacked sdist.
        way: How smw is put around the applications; None runs without smw.

    Raises:
        BrokenRunError: It did not come to an end.
    """
    with tempfile.TemporaryDirectory(prefix="invisible-") as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "smw_outcomes"]
        command += [word for name in suite.needs for word in ("-p", name)]
        command += ["-p", "smw_around", "-p", suite.plugin] if way else []
        command += [word for name in _OFF for word in ("-p", f"no:{name}")]
        command += [f"--basetemp={folder}/tmp", "tests"]
        environ = _environ() | {"INVISIBLE_RESULT": str(result), "INVISIBLE_WAY": way or ""}
        try:
            done = subprocess.run(
                command, cwd=source, env=environ, capture_output=True, text=True, timeout=_MOST_S, check=False
            )
        except subprocess.TimeoutExpired as late:
            raise BrokenRunError(f"not done after {_MOST_S} s: {_end(late.stdout)}") from None
        if done.returncode not in _RAN or not result.exists():
            raise BrokenRunError(f"pytest ended with {done.returncode}\n{_end(done.stdout)}\n{_end(done.stderr)}")
        return Run(**json.loads(result.read_text(encoding="utf-8")))


def _environ() -> dict[str, str]:
    """Return this process's environment without settings of smw and without options for pytest."""
    hidden = {"PYTEST_ADDOPTS", *(variable.name for variable in variables())}
    kept = {name: value for name, value in os.environ.items() if name not in hidden and not name.startswith("SMW_")}
    return kept | {"PYTHONPATH": str(PLUGINS), "PYTHONDONTWRITEBYTECODE": "1"}


def _end(text: str | bytes | None) -> str:
    shown = text.decode(errors="replace") if isinstance(text, bytes) else text or ""
    return "\n".join(shown.splitlines()[-25:])
