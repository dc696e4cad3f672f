"""Names of what a started script defines: those under which others import it, and found again without a second run."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from smw._kernel.call import Target
from smw._kernel.reference import module_of, resolve

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys
from dataclasses import dataclass
from multiprocessing import get_context

from smw import cached, cache, explain
from smw.cache import writes

print("run as", __name__)


class Shelf:
    def __cache_key__(self):
        return 1

    @cached(60)
    def first(self):
        return "Emma"


@dataclass
class Book:
    number: int


@cached(60)
def title(book):
    return "Emma"


@writes(title, strategy="write_back", value=lambda result, arguments: "Emma")
def rename(book):
    pass


def tell():
    from smw.cache.strategies.writing import known_writers

    keys = [cache.key_for(title, 1), cache.key_for(title, Book(1)), cache.key_for(Shelf.first, Shelf())]
    keys.append("books:title" in str(explain(title)))
    print(*keys, cache.info(title).fn, *known_writers())


if __name__ == "__main__":
    tell()
    if sys.argv[1:]:
        child = get_context("spawn").Process(target=tell)
        child.start()
        child.join()
"""


def test_a_script_and_its_import_mean_the_same_key(tmp_path):
    """A script, its spawned child, ``python -m`` and an import name functions and classes alike."""
    (tmp_path / "books.py").write_text(SCRIPT)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SMW_", "CACHE_", "OTEL_"))}
    env["PYTHONPATH"] = str(ROOT)
    told, ran = set(), []
    for arguments in (
        ["books.py", "spawn"],
        ["-m", "books"],
        ["-c", "import books; books.tell()"],
    ):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        told |= {line for line in lines if not line.startswith("run as")}
        ran += [line for line in lines if line.startswith("run as")]
    assert len(told) == 1
    (line,) = told
    assert line.endswith(" True books:title books:rename")
    assert len({*line.split()[:3]}) == 3
    # Nothing of it imports the script once more.
    assert [line.split()[-1] for line in ran] == ["__main__", "__mp_main__", "__main__", "books"]


@pytest.mark.parametrize(
    ("spec", "file", "name"),
    [
        (None, "/srv/books.py", "books"),
        ("shop.jobs.nightly", "/srv/shop/jobs/nightly.py", "shop.jobs.nightly"),
        ("shop.__main__", "/srv/shop/__main__.py", "shop.__main__"),
        ("__main__", "/srv/tool.pyz/__main__.py", "tool"),
        (None, "<stdin>", "__main__"),
        (None, None, "__main__"),
    ],
)
@pytest.mark.parametrize("started", ["__main__", "__mp_main__"])
def test_what_is_started_has_the_name_of_its_import(monkeypatch, started, spec, file, name):
    """The module of ``python -m``, the stem of a script, the name of an archive; without a file it has no other."""

    def title() -> str:
        return "Emma"

    title.__module__, title.__qualname__ = started, "title"  # its namespace is that of the tests, as a profiler's is
    main = types.SimpleNamespace(__spec__=spec and types.SimpleNamespace(name=spec), __file__=file, title=title)
    monkeypatch.setitem(sys.modules, started, main)
    assert module_of(title) == name
    assert Target(title).name == f"{name}:title"
    assert resolve(f"{name}:title") is title
    assert resolve(f"{name}:other") is None
