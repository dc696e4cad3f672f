"""Where the services of the tests keep their files, which ports are free, and what the environment asks for."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
NAMES = ("SMW_ALLOW_MISSING", "SMW_PORTS", "SMW_RESULT", "SMW_SERVICES", "SMW_UPDATE_SNAPSHOTS")
_kept: dict[str, str] = {}
_taken: set[int] = set()


def hide_options() -> None:
    """Take the options of the tests out of the environment: smw reports each `SMW_` name that it does not know."""
    _kept.update({name: os.environ.pop(name) for name in NAMES if name in os.environ})


def option(name: str) -> str:
    """Return an option of the tests, or an empty string."""
    return os.environ.get(name) or _kept.get(name, "")


def home() -> Path:
    """Return where packages of this system's release and architecture are unpacked."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    codename = release.get("VERSION_CODENAME") or release.get("ID") or platform.system().lower()
    return ROOT / ".services" / f"{codename}-{platform.machine()}"


def free_port() -> int:
    """Return a free loopback port, within `SMW_PORTS` when that is set."""
    span = option("SMW_PORTS")
    low, _, high = (span or "0").partition("-")
    for port in range(int(low), int(high or low) + 1):
        if port in _taken:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            chosen = int(probe.getsockname()[1])
            if span:
                _taken.add(chosen)
            return chosen
    raise RuntimeError(f"no free port in SMW_PORTS={span}")
