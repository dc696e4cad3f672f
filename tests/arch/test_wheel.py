"""The wheel is pure and reproducible, and works where nothing but its dependencies is installed."""

from __future__ import annotations

import hashlib
import zipfile

import pytest

from tests.arch.source import ROOT
from tests.arch.wheels import build, environment, run

pytestmark = pytest.mark.house

SNIPPET = """
import smw, importlib.metadata
from smw import cached

calls = []

@cached(ttl=60)
def square(x: int) -> int:
    calls.append(x)
    return x * x

assert square(3) == square(3) == 9 and calls == [3], calls
assert smw.__version__ == importlib.metadata.version("smw")
assert "site-packages" in smw.__file__, smw.__file__
smw.shutdown()
print("works")
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Two wheels of the same sources, built apart."""
    return build(tmp_path_factory.mktemp("one") / "w"), build(tmp_path_factory.mktemp("two") / "w")


def test_two_builds_give_the_same_hash(wheels):
    """Building the same sources twice gives the same bytes."""
    one, two = (hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels)
    assert one == two


def test_the_wheel_is_pure_typed_and_complete(wheels):
    """The wheel is for every platform, ships its types and licence, and holds every module and nothing else."""
    assert wheels[0].name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheels[0]) as archive:
        names = set(archive.namelist())
    assert "smw/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "smw").rglob("*") if path.is_file()}
    sources = {name for name in sources if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == sources


def test_the_wheel_works_in_a_clean_environment(wheels, tmp_path):
    """Installed with its hard dependencies alone, a cached function caches and the version is known."""
    python = environment(tmp_path / "venv", wheels[0])
    assert run(python, "-W", "error", "-c", SNIPPET, cwd=tmp_path).strip() == "works"
