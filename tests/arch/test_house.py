"""The tools that keep the house pass: what the sessions lint, types, arch and docs run, as tests."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.arch.source import ROOT

pytestmark = pytest.mark.house

TOOLS = {
    "pyright": ("pyright", "--pythonpath", sys.executable),
    "mypy": ("mypy",),
    "sphinx": ("sphinx-build", "-nW", "--keep-going", "-q", "-b", "html", "-d", "{folder}/trees", "docs", "{folder}"),
    "ruff rules": ("ruff", "check", "."),
    "ruff format": ("ruff", "format", "--check", "."),
    "deptry": ("deptry", "."),
    "vulture": ("vulture",),
    "import-linter": ("lint-imports", "--no-cache"),
}
"""The slowest first; the documentation builds without the network, and without a dead reference."""


def _run(command):
    program = Path(sys.executable).parent / command[0]
    return subprocess.run(
        [str(program), *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """Begin all that are wanted, two at a time."""
    wanted = {item.callspec.params["tool"] for item in request.session.items if item.module is request.module}
    folder = str(tmp_path_factory.mktemp("house"))
    with ThreadPoolExecutor(2) as pool:
        commands = {tool: [word.format(folder=folder) for word in TOOLS[tool]] for tool in TOOLS if tool in wanted}
        yield {tool: (command, pool.submit(_run, command)) for tool, command in commands.items()}


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_passes(tool, runs):
    """The tool finds nothing to report in the whole checkout."""
    command, run = runs[tool]
    done = run.result()
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
