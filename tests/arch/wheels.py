"""Builds the wheel and puts it into environments that hold nothing else; asserts nothing itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.arch.source import ROOT

CONSTRAINTS = ROOT / "constraints.txt"


def find_uv():
    """Return uv, from PATH or beside this interpreter; empty where there is none."""
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent)) or ""


def run(*command, cwd=ROOT, fails=False, **env):
    """Run a command; return what it prints, or what it writes to its standard error where it is to fail."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**kept, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode != 0) is fails, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stderr if fails else done.stdout


def build(target):
    """Build the wheel from a copy of the sources, with the clock of the sources pinned."""
    copy = target / "source"
    copy.mkdir(parents=True)
    shutil.copytree(ROOT / "smw", copy / "smw", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target)
    run(*command, cwd=copy, SOURCE_DATE_EPOCH="1700000000")
    return next(target.glob("*.whl"))


def environment(home, wheel, extra=""):
    """Make an environment with the wheel, one extra of it and what they need; return its Python."""
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if uv := find_uv():
        run(uv, "venv", "-q", "--no-project", "--python", sys.executable, home)
        install = (uv, "pip", "install", "-q", "--python", python)
    else:
        run(sys.executable, "-m", "venv", home)
        install = (python, "-m", "pip", "install", "-q")
    run(*install, "-c", CONSTRAINTS, f"smw{extra and f'[{extra}]'} @ {wheel.as_uri()}")
    return python
