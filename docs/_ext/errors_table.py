"""Lists every error code with its meaning and remedy, from what ``smw explain`` knows, so that the two say the same."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

if TYPE_CHECKING:
    from sphinx.application import Sphinx

CODES = Path(__file__).resolve().parents[2] / "smw" / "cli" / "codes.toml"


def table() -> list[str]:
    """Return a Markdown table of the codes."""
    codes = tomllib.loads(CODES.read_text(encoding="utf-8"))
    lines = ["| code | what happened | fix |", "|---|---|---|"]
    for code, entry in codes.items():
        title, fix = (entry[name].replace("|", "\\|") for name in ("title", "fix"))
        lines.append(f"| `SMW-{code}` | {title} | {fix} |")
    return lines


class ErrorsTable(SphinxDirective):
    """``{smw-errors}``: the table of every error code."""

    def run(self) -> list[nodes.Node]:
        """Parse the table as part of the page."""
        self.env.note_dependency(str(CODES))
        section = nodes.section()
        section.document = self.state.document
        nested_parse_with_titles(self.state, StringList(table(), source="errors"), section)
        return section.children


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("smw-errors", ErrorsTable)
    return {"parallel_read_safe": True}
