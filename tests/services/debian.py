"""Unpacks servers from Debian packages under `.services/`, as any user, installing nothing.

apt chooses, downloads and verifies (hashes under the signed index); its state and cache are private. The packages are
only unpacked, so no daemon is registered and nothing outside the checkout changes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.services.places import home
from tests.services.specs import Spec

LISTS = Path("/var/lib/apt/lists")
STATUS = Path("/var/lib/dpkg/status")


class CannotFetchError(Exception):
    """Says in one line why a server cannot be had this way."""


def unpacked(spec: Spec) -> tuple[Path, dict[str, str]] | None:
    """Return the program and the environment it needs, when it was unpacked before."""
    root = home() / spec.name
    program = next(root.glob(f"{spec.where}/{spec.program}"), None)
    if program is None:
        return None
    if spec.where != "usr/bin":  # such a program finds its own libraries
        return program, {}
    libraries = sorted({str(path.parent) for path in root.rglob("*.so*")})
    return program, {"LD_LIBRARY_PATH": os.pathsep.join(libraries)} if libraries else {}


def fetch(spec: Spec) -> None:
    """Download and unpack one server with the libraries this machine lacks."""
    if unpacked(spec):
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb") and STATUS.exists()):
        raise CannotFetchError("no apt on this system")
    home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home(), prefix="fetch-") as name:
        work = Path(name)
        archives = _download(spec, work)
        root = work / "root"
        for archive in archives:
            _run("dpkg-deb", "--extract", str(archive), str(root))
        if not any(root.glob(f"{spec.where}/{spec.program}")):
            raise CannotFetchError(f"{', '.join(spec.packages)} brought no {spec.program}")
        _stay_inside(root)
        target = home() / spec.name
        shutil.rmtree(target, ignore_errors=True)
        root.rename(target)


def _stay_inside(root: Path) -> None:
    """Point links that lead to `/etc` and the like to what was unpacked instead."""
    for link in [path for path in root.rglob("*") if path.is_symlink()]:
        target = str(link.readlink())
        inside = root / target.lstrip("/")
        if target.startswith("/") and os.path.lexists(inside):
            link.unlink()
            link.symlink_to(os.path.relpath(inside, link.parent))


def _download(spec: Spec, work: Path) -> list[Path]:
    """Let apt download into a private cache: by the machine's package lists, else by lists of our own."""
    (work / "archives" / "partial").mkdir(parents=True)
    _status_without(spec, work / "status")
    options = {
        "Dir::State::status": work / "status",
        "Dir::State::extended_states": work / "extended",
        "Dir::Cache": work,
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "3",
    }
    ask = ("install", "-y", "-qq", "--download-only", "--no-install-recommends", *spec.packages)
    try:
        if not any(LISTS.glob("*_Packages*")):
            raise CannotFetchError("no package lists")  # noqa: TRY301 - same way out as lists that are too old
        _apt(options, *ask)
    except CannotFetchError:
        own = home() / "lists"
        (own / "partial").mkdir(parents=True, exist_ok=True)
        options["Dir::State::lists"] = own
        _apt(options, "update", "-qq")
        _apt(options, *ask)
    return sorted((work / "archives").glob("*.deb"))


def _status_without(spec: Spec, target: Path) -> None:
    """Write the machine's list of installed packages without this server, so that apt brings it in any case.

    What depends on it goes too: apt refuses to work on a list with gaps.
    """
    stanzas = STATUS.read_text(encoding="utf-8", errors="surrogateescape").split("\n\n")
    packages = {stanza.lstrip("\n").partition("\n")[0].removeprefix("Package: "): stanza for stanza in stanzas}
    gone = {name for name in packages if re.fullmatch("|".join(spec.parts), name)}
    while more := {name for name, stanza in packages.items() if gone & _needs(stanza)} - gone:
        gone |= more
    kept = [stanza for name, stanza in packages.items() if name not in gone]
    target.write_text("\n\n".join(kept), encoding="utf-8", errors="surrogateescape")


def _needs(stanza: str) -> set[str]:
    fields = re.findall(r"^(?:Pre-)?Depends: (.*)$", stanza, re.MULTILINE)
    return {name for field in fields for name in re.findall(r"(?:^|[,|])\s*([^\s:,|(]+)", field)}


def _apt(options: dict[str, object], *command: str) -> None:
    flags = [flag for key, value in options.items() for flag in ("-o", f"{key}={value}")]
    _run("apt-get", *flags, *command)


def _run(*command: str) -> None:
    env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotFetchError(f"{command[0]} did not end within 300 s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise CannotFetchError(f"{command[0]}: {lines[-1] if lines else done.returncode}")
