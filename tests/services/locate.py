"""Decides where a server comes from (PATH, Debian packages, compose) and says why when there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.services import debian
from tests.services.places import hide_options, option
from tests.services.specs import Spec

__all__ = ["Found", "Missing", "allowed_missing", "hide_options", "in_ci", "locate", "option", "ways"]

WAYS = ("path", "deb", "compose")


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
    found = Found("PATH", Path(program)) if program else Missing(f"no {spec.program} on PATH")
    return _completed(spec, found, fetch=fetch)


def _deb(spec: Spec, *, fetch: bool) -> Found | Missing:
    if fetch:
        try:
            debian.fetch(spec)
        except debian.CannotFetchError as error:
            return Missing(str(error))
    here = debian.unpacked(spec)
    found = Found("deb", *here) if here else Missing("not unpacked: python3 noxfile.py services")
    return _completed(spec, found, fetch=fetch)


def _completed(spec: Spec, found: Found | Missing, *, fetch: bool) -> Found | Missing:
    if spec.complete is None or isinstance(found, Missing):
        return found
    lack = spec.complete(found.program, fetch=fetch)
    return Missing(lack) if lack else found


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
