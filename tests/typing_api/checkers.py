"""Runs mypy and pyright over sample files and returns what they reveal and refuse, line by line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MYPY = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): (?P<kind>\w+): (?P<text>.*)$")


@dataclass
class Report:
    """What one checker says about one file."""

    revealed: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)


def run_mypy(folder: Path, files: Iterable[Path]) -> dict[str, Report]:
    """Run mypy, strict, over all files at once."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file",
        os.devnull,
        "--cache-dir",
        str(folder / "cache"),
    ]
    command += ["--python-version", "3.11", "--follow-imports", "silent", "--no-error-summary", *map(str, files)]
    env = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)
    reports: dict[str, Report] = {}
    for line in done.stdout.splitlines():
        if not (match := MYPY.match(line)):
            continue
        report = reports.setdefault(Path(match["file"]).name, Report())
        if match["text"].startswith("Revealed type is "):
            report.revealed[int(match["line"])] = match["text"]
        elif match["kind"] == "error":
            report.errors[int(match["line"])] = match["text"]
    assert reports, done.stdout + done.stderr
    return reports


def run_pyright(folder: Path, files: Iterable[Path]) -> dict[str, Report]:
    """Run pyright, strict but for reports on unused values, over all files at once."""
    config = folder / "pyrightconfig.json"
    settings = {"include": [str(path) for path in files], "extraPaths": [str(ROOT)], "pythonVersion": "3.11"}
    config.write_text(json.dumps({**settings, "typeCheckingMode": "standard"}), encoding="utf-8")
    program = Path(sys.executable).parent / "pyright"
    command = [str(program), "--outputjson", "--pythonpath", sys.executable, "-p", str(config)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    reports: dict[str, Report] = {}
    for entry in json.loads(done.stdout)["generalDiagnostics"]:
        report = reports.setdefault(Path(entry["file"]).name, Report())
        line = entry["range"]["start"]["line"] + 1
        text = entry["message"]
        if entry["severity"] == "information" and text.startswith("Type of "):
            report.revealed[line] = re.sub(r'^Type of ".*?" is ', "", text, flags=re.DOTALL)
        elif entry["severity"] == "error":
            report.errors[line] = text
    return reports


CHECKERS: dict[str, Callable[[Path, Iterable[Path]], dict[str, Report]]] = {"mypy": run_mypy, "pyright": run_pyright}


def complaints(source: str, report: Report) -> list[str]:
    """Compare what a checker says with what the file's comments promise."""
    found = []
    previous = ""
    lines = source.splitlines()
    for number, line in enumerate(lines, 1):
        said = report.errors.get(number, "")
        if line.endswith("# error") != bool(said):
            found.append(f"{number}: {line.strip()}: {said or 'was accepted'}")
        if not line.startswith("reveal_type("):
            continue
        revealed = report.revealed.get(number, f"nothing revealed in line {number}")
        if line.endswith("# same") and revealed != previous:
            found.append(f"{number}: {line.strip()}\n    plain:     {previous}\n    decorated: {revealed}")
        previous = revealed
    return found
