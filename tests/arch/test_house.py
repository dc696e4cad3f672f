"""The tools that keep the house pass: what the sessions lint, types, arch and docs run, as tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.arch.source import ROOT

pytestmark = pytest.mark.house

TOOLS = {
    "ruff rules": ("ruff", "check", "."),
    "ruff format": ("ruff", "format", "--check", "."),
    "deptry": ("deptry", "."),
    "vulture": ("vulture",),
    "import-linter": ("lint-imports", "--no-cache"),
    "mypy": ("mypy",),
    "pyright": ("pyright", "--pythonpath", sys.executable),
}


def passes(*command):
    """Run a tool of this environment and show its words when it fails."""
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [str(program), *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_passes(tool):
    """The tool finds nothing to report in the whole checkout."""
    passes(*TOOLS[tool])


def test_docs_build(tmp_path):
    """The documentation builds without a warning, without the network, and without a dead reference."""
    passes(
        "sphinx-build", "-nW", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees"), "docs", str(tmp_path)
    )
