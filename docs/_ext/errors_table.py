"""Lists every error code that the package can raise, read from its source, so that none is missing from the page."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

PACKAGE = Path(__file__).resolve().parents[2] / "smw"
CODE = re.compile(r"SMW-[A-Z]\d{3}$")


def raised() -> Iterator[tuple[str, str]]:
    """Yield code and class of every error that some module of the package builds."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and CODE.match(first.value):
                name = ast.unparse(node.func).rpartition(".")[2]
                yield first.value, name
    # Built by their own classes, which know their code.
    yield "SMW-S102", "MissingExtra"
    yield "SMW-A101", "Denied"


def table() -> list[str]:
    """Return a Markdown table of the codes."""
    classes: dict[str, set[str]] = {}
    for code, name in raised():
        if name not in ("super().__init__", "__init__"):
            classes.setdefault(code, set()).add(name)
    lines = ["| code | raised as |", "|---|---|"]
    return lines + [
        f"| `{code}` | {', '.join(f'`{n}`' for n in sorted(names))} |" for code, names in sorted(classes.items())
    ]


class ErrorsTable(SphinxDirective):
    """``{smw-errors}``: the table of every error code."""

    def run(self) -> list[nodes.Node]:
        """Parse the table as part of the page."""
        section = nodes.section()
        section.document = self.state.document
        nested_parse_with_titles(self.state, StringList(table(), source="errors"), section)
        return section.children


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("smw-errors", ErrorsTable)
    return {"parallel_read_safe": True}
