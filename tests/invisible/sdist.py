"""Gets the source distribution of an installed version through pip, once, and unpacks it under `.tools/`."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

__all__ = ["CannotFetchError", "unpacked"]

HOME = Path(__file__).resolve().parents[2] / ".tools" / "sdists"


class CannotFetchError(Exception):
    """Says in a line why there is no sdist."""


def unpacked(project: str) -> Path:
    """Return the folder with the source of the installed version of `project`."""
    version = importlib.metadata.version(project)
    target = HOME / f"{project}-{version}"
    if target.is_dir():
        return target
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME, prefix="fetch-") as folder:
        work = Path(folder)
        archive = _downloaded(f"{project}=={version}", work / "archive")
        with tarfile.open(archive) as packed:
            packed.extractall(work / "source", filter="data")
        (source,) = (work / "source").iterdir()
        source.rename(target)  # in one step: a folder of that name is always complete
    return target


def _downloaded(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(folder)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    archives = sorted(folder.glob("*.tar.gz")) if folder.is_dir() else []
    if done.returncode or not archives:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise CannotFetchError(f"no sdist of {requirement}: {said[-1] if said else 'pip brought none'}")
    return archives[0]
