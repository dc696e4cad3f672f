"""The front door starts on an old Python, knows its sessions, and gives exit codes that cannot lie."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys

import pytest

from tests.arch.source import ROOT

SESSIONS = [
    "tests",
    "lint",
    "types",
    "typing_api",
    "arch",
    "properties",
    "faults",
    "examples",
    "docs",
    "bench",
    "wheel",
]
SESSIONS += ["chaos", "demo", "invisible", "matrix", "services"]


@pytest.fixture
def door(tmp_path, monkeypatch):
    """The front door as a module, without nox, with its results in a folder of the test."""
    for name in ("PIP_CONSTRAINT", "UV_BUILD_CONSTRAINT", "PIP_DISABLE_PIP_VERSION_CHECK", "UV_PYTHON_DOWNLOADS"):
        monkeypatch.setenv(name, "never" if name == "UV_PYTHON_DOWNLOADS" else "")  # restored after the test
    spec = importlib.util.spec_from_file_location("front_door", ROOT / "noxfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def judged(door, tmp_path, **sessions):
    """Return the verdict over sessions given as (nox result, what the session's run wrote)."""
    entries = []
    for name, (result, written) in sessions.items():
        entries.append({"name": name, "result": result})
        if written is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps(written), encoding="utf-8")
    report = tmp_path / "nox.json"
    report.write_text(json.dumps({"sessions": entries}), encoding="utf-8")
    return door.verdict(report)


def test_it_parses_on_python_3_8():
    """The file is valid Python 3.8, which is what an old machine starts it with."""
    ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_the_bootstrap_imports_only_the_standard_library():
    """Besides nox, imported under nox alone, the front door needs nothing that is not in Python."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names | {"__future__"}


def test_alone_it_lists_every_session_with_a_line():
    """Without arguments it names each session with what it does, and succeeds."""
    done = subprocess.run([sys.executable, "noxfile.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for name in SESSIONS:
        assert re.search(rf"^  {name} +\S.+\.$", done.stdout, re.MULTILINE), name


def test_an_unknown_session_is_bad_usage():
    """A wrong name exits with 2 and says which one is near."""
    done = subprocess.run([sys.executable, "noxfile.py", "tets"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean 'tests'?" in done.stdout


def test_incomplete_and_nothing_else_is_3(door, tmp_path):
    """Sessions that passed but missed servers give 3."""
    incomplete = ("aborted", {"exit": 0, "missing": ["redis"]})
    assert judged(door, tmp_path, tests=incomplete, lint=("success", None)) == 3


@pytest.mark.parametrize(
    "other",
    [
        ("failed", {"exit": 1, "missing": ["redis"]}),  # tests failed besides
        ("failed", {"exit": 3, "missing": []}),  # pytest's own 3 is an internal error
        ("failed", None),  # nothing was written: it failed before
        ("skipped", None),
    ],
)
def test_any_failure_is_1(door, tmp_path, other):
    """Whatever else went wrong, the result is 1, never 3."""
    incomplete = ("aborted", {"exit": 0, "missing": ["redis"]})
    assert judged(door, tmp_path, tests=incomplete, faults=other) == 1


def test_a_report_that_is_missing_is_1(door, tmp_path):
    """When nox left no report, nothing is taken for granted."""
    assert door.verdict(tmp_path / "absent.json") == 1


def test_without_any_tool_it_exits_2(door, monkeypatch, capsys):
    """Without uv and pip it says what to install, and exits with 2."""
    monkeypatch.setattr(door, "find_uv", lambda: "")
    monkeypatch.setattr(door, "find_pip", list)
    assert door.main(["tests"]) == 2
    assert "apt install python3-pip" in capsys.readouterr().err


def test_an_old_python_without_downloads_exits_2(door, monkeypatch, capsys):
    """On an old Python, with downloads forbidden and no other interpreter, it says so and exits with 2."""
    monkeypatch.setattr(door, "find_uv", lambda: "uv")
    monkeypatch.setattr(door, "OLDEST", (99, 0))
    monkeypatch.setattr(door, "answer", lambda *_command: "")
    assert door.main(["tests"]) == 2
    assert "Python 3.11 or newer" in capsys.readouterr().err


def test_tools_are_pinned(door):
    """The versions of uv and nox come from the constraints file."""
    assert re.fullmatch(r"[\d.]+", door.pin("uv"))
    assert re.fullmatch(r"[\d.]+", door.pin("nox"))


def test_uv_gets_the_index_that_pip_is_configured_for(door, monkeypatch):
    """Where only pip knows the index of the house, uv is told it; where uv has its own, nothing is changed."""
    listed = "global.cert='/etc/ca'\nglobal.index-url='https://index.example/simple'\n:env:.extra-index-url='https://a\\nhttps://b'"
    monkeypatch.setattr(door, "answer", lambda *_command: listed)
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert door.uv_index() == {"UV_DEFAULT_INDEX": "https://index.example/simple", "UV_INDEX": "https://a https://b"}
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example")
    assert door.uv_index() == {}


def test_ci_calls_what_a_newcomer_types():
    """CI runs the README's one command, with servers that the project's own files fetch."""
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == "exec python3 noxfile.py tests"
    assert "export SMW_SERVICES=deb" in lines
    assert "python3 noxfile.py tests" in (ROOT / "README.md").read_text(encoding="utf-8")
