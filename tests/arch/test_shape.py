"""Modules and functions stay small, flat and introduced by a sentence."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

from tests.arch.source import functions, length, modules

MODULE_LINES = 400
MEDIAN_LINES = 160
FUNCTION_LINES = 40
TOLERATED_LINES = 50  # a table of cases is sometimes clearer in one piece ...
TOLERATED_SHARE = 0.03  # ... but only sometimes
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|for now|simplified|mock data|in a real system)\b|NotImplementedError")


def test_no_module_is_long():
    """No module has more than 400 lines, and the median stays near 120."""
    sizes = {module.name: len(module.text.splitlines()) for module in modules()}
    assert {name: size for name, size in sizes.items() if size > MODULE_LINES} == {}
    assert statistics.median(sizes.values()) <= MEDIAN_LINES


def test_no_function_is_long():
    """Functions have at most 40 lines besides the docstring; three in a hundred may have up to 50."""
    sizes = {f"{m.name}:{f.lineno} {f.name}": length(f) for m in modules() for f in functions(m)}
    long = {name: size for name, size in sizes.items() if size > FUNCTION_LINES}
    assert {name: size for name, size in long.items() if size > TOLERATED_LINES} == {}
    assert len(long) <= max(1, len(sizes) * TOLERATED_SHARE), long


def test_packages_are_flat():
    """Packages are nested at most two deep below `smw`."""
    assert [module.name for module in modules() if len(module.words) > 3] == []


def test_every_module_opens_with_a_sentence():
    """The first line of a module's docstring says in one sentence what it decides."""
    bad = []
    for module in modules():
        first = (ast.get_docstring(module.tree) or "").partition("\n")[0]
        if module.text.strip() and not re.match(r".{12,}[.:]$", first):
            bad.append(f"{module.name}: {first!r}")
    assert bad == []


def test_nothing_reads_as_unfinished():
    """Shipped code holds no stub, no note to self and no excuse."""
    bad = [
        f"{module.name}:{number}: {line.strip()}"
        for module in modules()
        for number, line in enumerate(module.text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert bad == []


def test_every_folder_of_the_cache_is_explained():
    """The table for contributors has each of them, and no other."""
    root = Path(__file__).parents[2]
    page = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \|", page.partition("## Where things are in the cache")[2], flags=re.MULTILINE)
    assert sorted(told) == sorted(path.parent.name for path in (root / "smw" / "cache").glob("*/__init__.py"))
