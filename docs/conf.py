"""How the documentation is built: offline, strict, from Markdown and docstrings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import smw  # noqa: E402 - found through the line above

project = "smw"
author = "smw contributors"
project_copyright = "smw contributors"
release = smw.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "settings_table", "errors_table"]
exclude_patterns = ["_build", "_ext"]
templates_path: list[str] = []
root_doc = "index"

html_theme = "furo"
html_title = f"smw {release}"
html_static_path: list[str] = []
html_show_sphinx = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

default_role = "literal"  # `name` in a docstring is code
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_preserve_defaults = False  # with which it loses the first parameter of methods that a package offers
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

# A reference to a public name must lead somewhere. Names of other projects would need their inventories, which come
# over the network; what lives in a module below a package has no page unless that package offers it.
nitpick_ignore_regex = [(r"py:.*", r"(?!smw\.).*"), (r"py:.*", r"smw\.(_|\w+\.(_|\w+\.|[A-Z]$)).*")]


def setup(app: Sphinx) -> None:
    """Leave the fields of named tuples to the docstring of their class, which says more than their number."""

    def skip(_app: Sphinx, _what: str, _name: str, member: object, _skipped: object, _options: object) -> bool | None:
        return True if str(member.__doc__).startswith("Alias for field number") else None

    app.connect("autodoc-skip-member", skip)
