"""The page of each decorator is complete: its options are those of the signature, and what it names exists."""

from __future__ import annotations

import inspect
import re
import tomllib

import pytest

import smw
from smw import cache, pipeline
from tests.docs.snippets import ROOT
from tests.docs.test_snippets import PAGES, name_of

FOLDER = ROOT / "docs" / "decorators"
DECORATORS = (
    "cached", "invalidate", "writes", "trace", "track_business_metric", "require_compliance", "audit_log",
    "stream_process", "batch_transform",
)  # fmt: skip
SECTIONS = (
    "Example", "Options", "Sync, async, methods, generators", "When something fails", "Errors", "Order", "See it",
)  # fmt: skip
ROW = re.compile(r"^\| `(\w+)` \| (?:`(.+?)`|(\w+)) \|", re.MULTILINE)


def text_of(name):
    """Return the page of a decorator."""
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def section(text, title):
    """Return what stands below a heading."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def options_of(function):
    """Return the parameters of a signature as a page has them: name and default."""
    empty = inspect.Parameter.empty
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, "required" if p.default is empty else repr(p.default)) for p in parameters]


def rows_of(text):
    """Return names and defaults of the tables of options in a section, in order."""
    return [(name, code or word) for name, code, word in ROW.findall(text)]


@pytest.mark.parametrize("name", DECORATORS)
def test_the_table_has_every_option(name):
    """The options of the page are the parameters of the decorator, in order, with their defaults."""
    wanted = options_of(cache.writes if name == "writes" else getattr(smw, name))
    found = rows_of(section(text_of(name), "Options"))[: len(wanted)]
    assert found == wanted, f"docs/decorators/{name}.md: the table below 'Options' is not that of the signature"


def test_the_table_of_retries_has_every_option():
    """What `retry=` takes stands on the page of streams, with its defaults."""
    found = rows_of(section(text_of("stream_process"), "Options"))
    assert found[len(options_of(smw.stream_process)) :] == options_of(pipeline.Retry)


@pytest.mark.parametrize("name", DECORATORS)
def test_every_page_says_the_same_kinds_of_things(name):
    """Nobody has to look for how a decorator fails, or what it does on a generator: each page has the section."""
    text = text_of(name)
    assert text.startswith(f"# `{name}`\n")
    assert [title for title in SECTIONS if not section(text, title).strip()] == []


def test_there_is_a_page_for_each_decorator():
    """The folder, the table of the index and its navigation hold the same ones."""
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert {page.stem for page in FOLDER.glob("*.md")} == {*DECORATORS, "index"}
    assert set(re.findall(r"^\| \[`(\w+)`\]\(\1\.md\)", index, re.MULTILINE)) == set(DECORATORS)
    assert set(index.partition(":hidden:")[2].partition("```")[0].split()) == set(DECORATORS)


def test_error_codes_of_the_pages_exist():
    """A code that a page names is one that `smw explain` knows."""
    known = tomllib.loads((ROOT / "smw" / "cli" / "codes.toml").read_text(encoding="utf-8"))
    named = [(name_of(page), code) for page in PAGES for code in re.findall(r"SMW-([A-Z]\d{3})", page.read_text())]
    assert named
    assert [(page, code) for page, code in named if code not in known] == []


def test_metrics_of_the_pages_exist():
    """A metric that a page names is one that the package has."""
    shipped = "".join(module.read_text(encoding="utf-8") for module in (ROOT / "smw").rglob("*.py"))
    named = [(name_of(page), name) for page in PAGES for name in re.findall(r"`(smw_[a-z0-9_]+)", page.read_text())]
    fixtures = set(re.findall(r"^def (smw_\w+)", (ROOT / "smw" / "pytest_plugin.py").read_text(), re.MULTILINE))
    assert [(page, name) for page, name in named if f'"{name}"' not in shipped and name not in fixtures] == []
