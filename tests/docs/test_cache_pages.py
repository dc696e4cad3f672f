"""The pages of the cache are complete: every option and setting has its place, every peer both its halves."""

from __future__ import annotations

import inspect
import re

import pytest

from smw import cache
from smw.environment import variables
from tests.docs.snippets import ROOT, blocks

FOLDER = ROOT / "docs" / "cache"
PEERS = ("aiocache", "cachetools", "cashews", "dogpile", "flask_caching")
STORIES = ("index", "introduction")
CAPABILITIES = sorted(page.stem for page in FOLDER.glob("*.md") if page.stem not in STORIES)


def text_of(page):
    """Return a page of the cache."""
    return (FOLDER / f"{page}.md").read_text(encoding="utf-8")


def tables_of(text):
    """Return the rows of the tables below a page's heading of options."""
    section = text.partition("\n## Options\n")[2].partition("\n## ")[0]
    return "\n".join(line for line in section.splitlines() if line.startswith("| "))


def test_every_option_of_cached_has_its_page():
    """What `cached` takes stands in the table of options of the page that says what it is for."""
    tables = "\n".join(tables_of(text_of(page)) for page in CAPABILITIES)
    options = list(inspect.signature(cache.cached).parameters)
    assert [name for name in options if not re.search(rf"\b{name}=", tables)] == []


def test_every_setting_of_the_cache_has_its_page():
    """A setting of the cache stands on one of its pages, by the variable that sets it."""
    whole = "\n".join(text_of(page) for page in CAPABILITIES)
    names = [variable.name for variable in variables() if variable.part == "cache"]
    assert len(names) > 10
    assert [name for name in names if f"`{name}`" not in whole] == []


@pytest.mark.parametrize("page", CAPABILITIES)
def test_every_page_says_what_how_and_what_if(page):
    """Each page has its options, something that runs, how it fails, and how it is seen."""
    text = text_of(page)
    wanted = ["Options", "When something fails", *(["See it"] if page not in ("sight", "plugins") else [])]
    assert [title for title in wanted if f"\n## {title}\n" not in text] == []
    assert [block for block in blocks(FOLDER / f"{page}.md") if block.language == "python" and block.skipped is None]


@pytest.mark.parametrize("peer", PEERS)
def test_both_halves_of_a_migration_run(peer):
    """A page for users of another library runs that library's snippet and ours."""
    page = FOLDER / "migrate" / f"{peer}.md"
    text = page.read_text(encoding="utf-8")
    assert re.search(r"^<!-- needs: \S+ -->$", text, re.MULTILINE)
    assert {"The same function in both", "Concept by concept", "What behaves differently"} <= set(
        re.findall(r"^## (.+)$", text, re.MULTILINE)
    )
    before, after = [block for block in blocks(page) if block.language == "python"][:2]
    package = peer.partition("_")[0]
    assert re.search(rf"^(?:from|import) {package}", before.text, re.MULTILINE)
    assert re.search(r"^from smw import", after.text, re.MULTILINE)


def test_every_page_is_listed():
    """The index names each page, in its table and in its navigation."""
    index = text_of("index")
    pages = {page.relative_to(FOLDER).with_suffix("").as_posix() for page in FOLDER.rglob("*.md")} - {"index"}
    assert set(index.partition(":hidden:")[2].partition("```")[0].split()) == pages
    assert {name.removesuffix(".md") for name in re.findall(r"\]\(([\w/]+\.md)\)", index)} >= pages
