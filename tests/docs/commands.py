"""Runs the shell blocks of a page: commands that end, servers that stay until the page ends, and files that must exist.

`smw`, `pytest`, `python` and programs of the environment run as they stand; `curl` is asked through httpx, since not
every machine has it. `export` holds for the rest of the block. Anything else is only counted, and what it names of this
project (a session of nox, an extra) must exist.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = ("openssl", "redis-cli", "redis-server")  # found on PATH, which leads to the redis-server of the tests first
RUN = ("smw", "pytest", "python", "curl", "openssl", "redis-cli")
SERVE = (*RUN, "gunicorn", "uvicorn", "waitress-serve", "redis-server")
READY_S = 30.0
_BUS = 10_000  # how far the port is on which the nodes of a cluster talk
_TRIES = 100


def free_address() -> str:
    """Return a loopback address that nobody listens on, nor on the port that a Redis there would use in a cluster."""
    for _ in range(_TRIES):
        with socket.socket() as taken, socket.socket() as other:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + _BUS))
                return f"127.0.0.1:{port}"
    raise AssertionError("no free ports")


def lines_of(text: str) -> list[str]:
    """Return the commands of a block: continued lines joined, prompts, comments and blank lines left out."""
    lines = text.replace("\\\n", " ").splitlines()
    commands = [line.strip().removeprefix("$ ").partition("  #")[0].strip() for line in lines]
    return [command for command in commands if command and not command.startswith("#")]


def parted(command: str, env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Split a command into its words and the environment that it runs in."""
    words, env = shlex.split(command), dict(env)
    while words and re.match(r"[A-Z][A-Z0-9_]*=", words[0]):
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    return words, env


def program(words: list[str], env: dict[str, str]) -> list[str]:
    """Return the words with the program that they stand for: this checkout's smw, this environment's others."""
    if words[0] in SYSTEM:
        return [shutil.which(words[0], path=env["PATH"]) or words[0], *words[1:]]
    if words[0] == "smw":
        return [sys.executable, "-m", "smw", *words[1:]]
    if words[0] == "python":
        return [sys.executable, *words[1:]]
    return [str(Path(sys.executable).parent / words[0]), *words[1:]]


def run(command: str, env: dict[str, str]) -> tuple[int, str]:
    """Run a command to its end and return its exit code and what it printed."""
    words, env = parted(command, env)
    if words[0] == "curl":
        return 0, curl(words[1:])
    if re.search(r"[|><]|&&", command):
        inner = re.sub(r"(^|&& |\| )smw ", rf"\1{shlex.quote(sys.executable)} -m smw ", command)
        done = subprocess.run(inner, shell=True, env=env, capture_output=True, text=True, check=False)
    else:
        done = subprocess.run(program(words, env), env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def curl(words: list[str]) -> str:
    """Ask as `curl -s` with -i, -X METHOD, -H 'name: value' and -d DATA would, and return what it would print."""
    import httpx

    method, headers, data, head, url = "GET", {}, None, False, ""
    rest = iter(words)
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(":")
            headers[name] = value.strip()
        elif word == "-d":
            data, method = next(rest), "POST"
        elif word in ("-i", "-si"):
            head = True
        elif not word.startswith("-"):
            url = word
        else:
            assert word == "-s", f"curl {word} is not understood"
    answer = httpx.request(method, url if "://" in url else f"http://{url}", headers=headers, content=data, timeout=30)
    lines = [f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return ("\n".join([*lines, "", ""]) if head else "") + answer.text + "\n" * (not answer.text.endswith("\n"))


class Background:
    """Servers that a page starts; all of them end with it.

    Args:
        log: The file that takes what they print.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, command: str, env: dict[str, str], address: str) -> None:
        """Start a server and wait until it listens."""
        words, env = parted(command, env)
        with self._log.open("ab") as log:
            process = subprocess.Popen(program(words, env), env=env, stdout=log, stderr=log)
        self._running.append(process)
        host, _, port = address.rpartition(":")
        until = time.monotonic() + READY_S
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
            except OSError:
                told = self._log.read_text(errors="replace")
                assert process.poll() is None, f"{command}: exit {process.returncode}\n{told}"
                assert time.monotonic() < until, f"{command}: does not listen on {address}\n{told}"
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End every server by TERM and wait for it, the last one first: a Redis waits for its replica."""
        while self._running:
            self._running[-1].send_signal(signal.SIGTERM)
            self._running[-1].wait(READY_S)
            self._running.pop()

    def kill(self) -> None:
        """End what is left, however the page went."""
        for process in self._running:
            process.kill()
            process.wait()


def exists(command: str) -> None:
    """Check that a session or an extra that a page names exists."""
    if session := re.search(r"noxfile\.py ((?:[a-z_]+ ?)+)", command):
        known = re.findall(r"@nox\.session.*\n +def (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8"))
        assert set(session[1].split()) <= set(known), f"no such session: {session[1]}"
    if extras := re.search(r"smw\[([\w,]+)\]", command):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert set(extras[1].split(",")) <= set(project["optional-dependencies"]), f"no such extra: {extras[1]}"


def environment() -> dict[str, str]:
    """Return the environment of the page's commands, in which this environment's programs come first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTEST_ADDOPTS": ""}
