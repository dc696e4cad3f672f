"""Writes the reference of a part's settings from its model, so that the page cannot differ from the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

from smw.environment import PREFIX, variables
from smw.settings import PARTS, PROFILES

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _default(value: object) -> str:
    if value in (None, (), {}, ""):
        return "unset"
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def table(part: str) -> list[str]:
    """Return a Markdown table of the settings of one part, or of the runtime itself for ``runtime``."""
    lines = ["| setting | variable | default | what it does |", "|---|---|---|---|"]
    for variable in variables():
        if (variable.part or "runtime") != part:
            continue
        info: Any = PARTS[part].model_fields[variable.field] if variable.part else None
        default = _default(info.default) if info else "unset"
        for profile, parts in PROFILES.items():
            if variable.field in parts.get(part, {}):
                default += f"; {profile}: {_default(parts[part][variable.field])}"
        name = f"`{variable.field}`" + (f" or `{info.alias}`" if info and info.alias else "")
        about = variable.about if variable.used else f"{variable.about} (not yet used)"
        prefixed = "" if variable.name.startswith(PREFIX) else f"`{PREFIX}{variable.name}`, "
        lines.append(f"| {name} | {prefixed}`{variable.name}` | {default} | {about} |")
    return lines


class SettingsTable(SphinxDirective):
    """``{smw-settings} cache``: the table of one part's settings."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Parse the table as part of the page."""
        section = nodes.section()
        section.document = self.state.document
        nested_parse_with_titles(self.state, StringList(table(self.arguments[0]), source="settings"), section)
        return section.children


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("smw-settings", SettingsTable)
    return {"parallel_read_safe": True}
