"""The wheel is pure and reproducible, and works where nothing but its dependencies is installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.arch.source import ROOT

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


def run(*command, cwd=ROOT, **env):
    """Run a command, fail with its words, return what it prints."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def build(target):
    """Build the wheel from a copy of the sources, with the clock of the sources pinned."""
    copy = target / "source"
    copy.mkdir(parents=True)
    shutil.copytree(ROOT / "smw", copy / "smw", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    run(
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        target,
        cwd=copy,
        SOURCE_DATE_EPOCH="1700000000",
    )
    return next(target.glob("*.whl"))


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
    home = tmp_path / "venv"
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if uv := shutil.which("uv"):
        run(uv, "venv", "-q", "--no-project", "--python", sys.executable, home)
        install = (uv, "pip", "install", "-q", "--python", python)
    else:
        run(sys.executable, "-m", "venv", home)
        install = (python, "-m", "pip", "install", "-q")
    run(*install, "-c", ROOT / "constraints.txt", wheels[0])
    assert run(python, "-c", SNIPPET, cwd=tmp_path).strip() == "works"
