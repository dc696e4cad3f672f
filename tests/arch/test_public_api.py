"""The public names are a promise: a change of them shows in `public_api.txt`."""

from __future__ import annotations

import importlib

import pytest

from tests.arch.source import ROOT
from tests.services.locate import option

PACKAGES = (
    "smw",
    "smw.cache",
    "smw.cache.sqlalchemy",
    "smw.errors",
    "smw.monitor",
    "smw.pipeline",
    "smw.security",
    "smw.testing",
    "smw.testing.conformance",
    "smw.testing.faults",
    "smw.web",
    "smw.web.fastapi",
    "smw.web.flask",
)
SNAPSHOT = ROOT / "tests" / "arch" / "public_api.txt"


def present():
    """Return the public packages that exist."""
    return [
        name
        for name in PACKAGES
        if (base := ROOT.joinpath(*name.split("."))).with_suffix(".py").is_file() or (base / "__init__.py").is_file()
    ]


def test_public_names_are_pinned():
    """Every `__all__` is as recorded; SMW_UPDATE_SNAPSHOTS=1 records a change that is meant."""
    lines = [f"{name}: {public}" for name in present() for public in sorted(importlib.import_module(name).__all__)]
    now = "\n".join(lines) + "\n"
    if option("SMW_UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(now, encoding="utf-8")
    assert SNAPSHOT.read_text(encoding="utf-8") == now


@pytest.mark.parametrize("name", present())
def test_public_names_exist(name):
    """Every name that a package announces can be taken from it, has a docstring if it is code, and shows in dir()."""
    module = importlib.import_module(name)
    for public in module.__all__:
        value = getattr(module, public)
        assert public in dir(module), public
        assert not callable(value) or value.__doc__, f"{name}.{public} has no docstring"
