"""Every error code is explained, nothing else is, and explanations are fit to read."""

from __future__ import annotations

import ast
import functools
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import smw
from smw.cli.app import app
from smw.cli.codes import codes

PACKAGE = Path(smw.__file__).parent
CODE = re.compile(r"SMW-[A-Z]\d{3}")
REFUSALS = PACKAGE / "web" / "policies" / "security.py"
RUNNER = CliRunner()


def texts(tree: ast.AST) -> set[str]:
    """Return the whole texts of a module that are codes."""
    found = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text for text in found if CODE.fullmatch(text)}


def statuses(tree: ast.AST) -> set[str]:
    """Return the codes of the refusals that are made of a status: ``self._refuse(413, ...)``."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    firsts = (call.args[0] for call in calls if call.func.attr == "_refuse" and call.args)
    return {f"SMW-W{first.value}" for first in firsts if isinstance(first, ast.Constant)}


@functools.cache
def raised() -> frozenset[str]:
    """Return every code that some module of the package gives to an error or an answer."""
    found = statuses(ast.parse(REFUSALS.read_text("utf-8")))
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        if CODE.search(text):
            found |= texts(ast.parse(text))
    return frozenset(found)


def test_every_code_has_an_explanation_and_none_is_left_over() -> None:
    """What the package raises and what codes.toml explains are the same codes."""
    assert sorted(raised() - codes().keys()) == []
    assert sorted(codes().keys() - raised()) == []


def test_the_scan_sees_codes_that_are_made_of_a_status() -> None:
    """Refusals of the web are among the codes, so that the comparison cannot miss them."""
    assert {"SMW-W403", "SMW-W413", "SMW-W429", "SMW-W503"} <= raised()


@pytest.mark.parametrize("code", codes())
def test_an_explanation_reads_well(code: str) -> None:
    """A title without a full stop, a sentence or more, and a fix in one line; the command prints all of it."""
    entry = codes()[code]
    assert 8 < len(entry.title) <= 90
    assert not entry.title.endswith(".")
    assert entry.when.endswith(".")
    assert entry.fix
    assert "\n" not in entry.fix
    result = RUNNER.invoke(app, ["explain", code])
    assert result.exit_code == 0
    assert entry.title in result.stdout
    assert f"fix:  {entry.fix}" in result.stdout
    assert all(line in result.stdout for line in entry.example.strip().splitlines())


@pytest.mark.parametrize("spelled", ["SMW-C101", "smw-c101", "C101", "c101"])
def test_a_code_is_found_however_it_is_spelled(spelled: str) -> None:
    """Case and prefix do not matter; --json gives the same fields to programs."""
    assert "SMW-C101  @cached stands without parentheses" in RUNNER.invoke(app, ["explain", spelled]).stdout
    fields = json.loads(RUNNER.invoke(app, ["explain", spelled, "--json"]).stdout)
    assert sorted(fields) == ["code", "example", "fix", "title", "when"]


def test_an_unknown_code_is_an_error_with_a_code_of_its_own() -> None:
    """No explanation is made up for a code that no error has."""
    result = RUNNER.invoke(app, ["explain", "SMW-X999"])
    assert getattr(result.exception, "code", "") == "SMW-K123"
