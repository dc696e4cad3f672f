"""Runs a server as a process of its own on a free loopback port, as an operator would."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.services import asking

ROOT = Path(__file__).parents[3]
_START_S = 60
_STOP_S = 30


@dataclass
class Served:
    """A server that runs."""

    url: str
    port: int
    home: Path
    process: subprocess.Popen[bytes]
    workers: int = 1

    def stop(self) -> int:
        """Stop it by SIGTERM and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_S)

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.home / "server.log").read_text()


@contextmanager
def served(command: list[str], home: Path) -> Iterator[Served]:
    """Yield the server that `command`, its port in braces, starts; ends it whatever happened.

    Args:
        command: Module and arguments for this interpreter.
        home: Folder for what server and application write.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", *(word.format(port=port) for word in command)]
    environment = {**os.environ, "SHOP_HOME": str(home), "PYTHONPATH": str(ROOT)}
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
    server = Served(f"http://127.0.0.1:{port}", port, home, process)
    try:
        eventually(lambda: _answers(server), within_s=_START_S)
        yield server
    finally:
        with suppress(ProcessLookupError):  # with its workers, who outlive a supervisor that is killed
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(server: Served) -> bool:
    assert server.process.poll() is None, server.log
    try:
        return asking.get(f"{server.url}/health/live").status_code == 200
    except httpx.TransportError:
        return False


def eventually(check, within_s=60.0):
    """Wait until `check()` is true."""
    until = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < until
        time.sleep(0.02)
