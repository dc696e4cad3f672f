"""Decides where a server comes from (PATH, Debian packages, compose) and says why when there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.services import debian
from tests.services.specs import Spec

WAYS = ("path", "deb", "compose")
NAMES = ("SMW_ALLOW_MISSING", "SMW_PORTS", "SMW_RESULT", "SMW_SERVICES", "SMW_UPDATE_SNAPSHOTS")
_kept: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Found:
    """A server that can be started."""

    how: str
    program: Path | None = None  # None: docker compose starts it
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Missing:
    """A server that cannot be had here."""

    reason: str


def hide_options() -> None:
    """Take the options of the tests out of the environment: smw reports each `SMW_` name that it does not know."""
    _kept.update({name: os.environ.pop(name) for name in NAMES if name in os.environ})


def option(name: str) -> str:
    """Return an option of the tests, or an empty string."""
    return os.environ.get(name) or _kept.get(name, "")


def in_ci() -> bool:
    """Tell whether this is a CI run, where a missing server is a failure."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def ways() -> tuple[str, ...]:
    """Return the ways to try, as `SMW_SERVICES` says."""
    chosen = option("SMW_SERVICES") or "auto"
    if chosen not in ("auto", "none", *WAYS):
        raise SystemExit(f"SMW_SERVICES={chosen}: use auto, path, deb, compose or none")
    return {"auto": WAYS, "none": ()}.get(chosen, (chosen,))


def allowed_missing() -> set[str]:
    """Return the servers whose absence is accepted; nothing is in CI."""
    return set() if in_ci() else {name.strip() for name in option("SMW_ALLOW_MISSING").split(",")} - {""}


def locate(spec: Spec, *, fetch: bool) -> Found | Missing:
    """Find a server; with `fetch`, Debian packages may be downloaded for it."""
    reasons = [] if ways() else ["SMW_SERVICES=none"]
    for way in ways():
        found = {"path": _path, "deb": _deb, "compose": _compose}[way](spec, fetch=fetch)
        if isinstance(found, Found):
            return found
        reasons.append(found.reason)
    return Missing("; ".join(reasons))


def _path(spec: Spec, *, fetch: bool) -> Found | Missing:
    program = shutil.which(spec.program)
    return Found("PATH", Path(program)) if program else Missing(f"no {spec.program} on PATH")


def _deb(spec: Spec, *, fetch: bool) -> Found | Missing:
    if fetch:
        try:
            debian.fetch(spec)
        except debian.CannotFetchError as error:
            return Missing(str(error))
    here = debian.unpacked(spec)
    return Found("deb", *here) if here else Missing("not unpacked: python3 noxfile.py services")


def _compose(spec: Spec, *, fetch: bool) -> Found | Missing:
    if not shutil.which("docker"):
        return Missing("no docker")
    for words, lack in ((("compose", "version"), "no docker compose"), (("info",), "no docker daemon")):
        try:
            done = subprocess.run(["docker", *words], capture_output=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            return Missing("the docker daemon does not answer")
        if done.returncode != 0:
            return Missing(lack)
    return Found("compose")
