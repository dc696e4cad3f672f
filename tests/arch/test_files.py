"""What is committed works on any machine, and every test says what it promises."""

from __future__ import annotations

import ast
import re

from tests.arch.source import ROOT, functions, modules, tracked

# Written in pieces, so that this file passes its own test.
HOSTS = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "crates" + ".io",
    "golang" + ".org",
    "maven" + ".org",
]
HOSTS += ["apache.org/" + "maven2", "debian" + ".org", "npm" + "js.com"]
PLACES = ["/ro" + "ot/", "/ho" + "me/", "/wo" + "rk/", "/Us" + "ers/", "/opt/" + "wheels"]
BINARY = {".png", ".gz", ".ico", ".parquet"}


def lines_with(words):
    """Return file, line and text of every tracked line that contains one of some words."""
    pattern = re.compile("|".join(re.escape(word) for word in words))
    found = []
    for path in tracked():
        if path.suffix in BINARY:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    return found


def test_no_registry_address_anywhere():
    """No file names a package registry: where packages come from is the machine's business."""
    assert lines_with(HOSTS) == []


def test_no_path_of_somebodys_machine():
    """No file holds an absolute path of the machine it was written on."""
    assert lines_with(PLACES) == []


def test_constraints_hold_names_and_versions_only():
    """Every line of the constraints file is `name==version`, with a marker at most."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.+!-]+( ; [^#]+)?", line)] == []


def test_every_test_has_a_docstring():
    """Each test says in a sentence what it promises."""
    bad = [
        f"{module.name}:{function.lineno} {function.name}"
        for module in modules("tests")
        for function in functions(module)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert bad == []
