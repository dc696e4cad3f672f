"""Whether Python and the packages installed are those that smw was tested with."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata, resources
from typing import TYPE_CHECKING

from smw import __version__
from smw.doctor.report import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

__all__ = ["judge", "oldest", "tested", "versions"]

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(?:<[\w.]+,\s*)?>=\s*([0-9][\w.]*)")


def tested() -> dict[str, str]:
    """Return package → the newest version that the tests ran with; ``python`` is among them."""
    text = (resources.files("smw.doctor") / "tested.toml").read_text("utf-8")
    return {name: str(version) for name, version in tomllib.loads(text).items()}


def oldest(requirements: Iterable[str]) -> dict[str, str]:
    """Return package → the oldest version allowed, from requirements as metadata holds them."""
    found = (_REQUIREMENT.match(requirement) for requirement in requirements)
    return {match[1].lower(): match[2] for match in found if match}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[\d.]*", version)[0].split(".") if part)  # type: ignore[index]


def _next_major(version: str) -> tuple[int, ...]:
    """Return the first version that may break what was tested: a zero in front makes the second number the major."""
    major, minor = (*_numbers(version), 0)[:2]
    return (major + 1,) if major else (0, minor + 1)


def judge(installed: Mapping[str, str], lowest: Mapping[str, str], newest: Mapping[str, str]) -> list[Finding]:
    """Return a finding for each package that is too old or newer than what was tested, and one for the rest.

    Args:
        installed: package → version.
        lowest: package → oldest version allowed.
        newest: package → newest version tested.
    """
    found, fine = [], 0
    for name, version in installed.items():
        low, high = lowest.get(name), newest.get(name)
        if low is not None and _numbers(version) < _numbers(low):
            fix = f'pip install "{name}>={low}"'
            found.append(
                Finding(f"versions.{name}", "fail", f"{version} is older than {low}, the oldest that works", fix)
            )
        elif high is not None and _numbers(version) >= _next_major(high):
            seen = f"{version} is a major version newer than {high}, the newest tested"
            found.append(
                Finding(f"versions.{name}", "warn", seen, f'should it misbehave: pip install "{name}=={high}"')
            )
        else:
            fine += 1
    if fine:
        found.append(Finding("versions.packages", "ok", f"{fine} packages, neither too old nor newer than tested"))
    return found


def _python(newest: str) -> Finding:
    now = sys.version_info[:2]
    shown = ".".join(map(str, sys.version_info[:3]))
    if now > _numbers(newest)[:2]:
        return Finding("versions.python", "warn", f"Python {shown}; tested up to {newest}", f"Python {newest}")
    return Finding("versions.python", "ok", f"Python {shown}")


async def versions() -> AsyncIterator[Finding]:
    """Name smw's own version, and check Python and every installed package that smw can use."""
    yield Finding("versions.smw", "ok", f"smw {__version__}")
    newest = tested()
    yield _python(newest.pop("python"))
    try:
        lowest = oldest(metadata.requires("smw") or ())
    except metadata.PackageNotFoundError:
        lowest = {}
    installed = {}
    for name in newest:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for finding in judge(installed, lowest, newest):
        yield finding
