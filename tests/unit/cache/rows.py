"""Tables whose rows name the tests that hold them: a row without a test, or with one that is gone, fails."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]


@cache
def tests_of(path: str) -> frozenset[str]:
    """Return the names of the tests that a file or a class of tests defines."""
    tree = ast.parse((TESTS.parent / path).read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def gone(named: str) -> list[str]:
    """Return those of the named tests that do not exist.

    Args:
        named: Lines of ``path: test, test``, paths seen from the root.
    """
    missing, count = [], 0
    for line in named.strip().splitlines():
        path, _, names = line.strip().partition(": ")
        for name in names.split(", "):
            count += 1
            if f"test_{name}" not in tests_of(path):
                missing.append(f"{path}::test_{name}")
    assert count
    return missing
