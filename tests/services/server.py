"""Runs one real server on a free loopback port and ends it by its process id, whatever happens."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.services.locate import Found
from tests.services.places import HOST, ROOT, free_port
from tests.services.specs import Spec

READY_S = 15.0


def _watchdog(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that ends a server once this process is gone, however it went (even by KILL)."""
    script = f"read -r _; kill -KILL {pid}"  # its input closes when this process ends
    return subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)


class Server:
    """A running server: where it listens, and the ways to hurt it.

    Attributes:
        name: The kind: `redis`, `memcached` or `kafka`.
        host: Always the loopback address.
        port: Kept over `stop()` and `start()`.
        address: `host:port`.
        url: What a client of this kind takes.
        found: The program that it runs.
    """

    def __init__(self, spec: Spec, found: Found, *extra: str) -> None:
        self._spec = spec
        self.found = found
        self._extra = extra
        self._home = Path(tempfile.mkdtemp(prefix=f"smw-{spec.name}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self.name = spec.name
        self.host = HOST
        self.port = free_port()
        atexit.register(self.close)

    @property
    def address(self) -> str:
        """Host and port as one word."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as a client's URL."""
        return self._spec.url.format(host=self.host, port=self.port)

    @property
    def pid(self) -> int:
        """The process id; an error when it does not run."""
        if self._process is None:
            raise RuntimeError(f"{self.name} on {self.address} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers; a server that runs is left alone."""
        if self._process is not None:
            return
        if self._spec.prepare is not None:
            self._spec.prepare(self.found.program, self.found.env, self.port, self._home, self._extra)
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.found.program), *self._spec.arguments(self.port, self._home), *self._extra],
                env={**os.environ, **self.found.env},
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the tests first; they end the server
            )
        self._watch = _watchdog(self._process.pid)
        self._await_ready()

    def stop(self) -> None:
        """End it as an operator would (TERM, then KILL), paused or not."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it from running while its port stays open: a server that hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server run again."""
        os.kill(self.pid, signal.SIGCONT)

    def flush(self) -> None:
        """Erase all its data."""
        if not self._spec.erase:
            raise RuntimeError(f"{self.name} has no command that erases everything")
        self._ask(self._spec.erase, timeout_s=READY_S)

    def close(self) -> None:
        """End it for good and remove its files; idempotent."""
        self.kill()  # nothing of it is kept, and memcached takes a second to end in order
        shutil.rmtree(self._home, ignore_errors=True)
        atexit.unregister(self.close)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.kill()  # before the server's id is free for others
            watch.communicate()
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def _ask(self, request: bytes, timeout_s: float) -> bytes:
        with socket.create_connection((self.host, self.port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(request)
            return connection.recv(512)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self._spec.ready_s
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                if self._ask(self._spec.hello, 1.0).startswith(self._spec.greeting):
                    return
            time.sleep(0.01)
        log = self._home / "log"
        tail = log.read_text(errors="replace")[-600:] if log.exists() else ""
        self.kill()
        raise RuntimeError(f"{self.name} on {self.address} did not answer within {self._spec.ready_s:g} s\n{tail}")


class ComposeServer(Server):
    """The same server in a container of its own compose project."""

    @property
    def _project(self) -> str:
        return f"smw-tests-{os.getpid()}-{self.port}"

    @property
    def pid(self) -> int:
        """The process id on the machine of the docker daemon."""
        container = self._compose("ps", "-q", self.name)
        shown = subprocess.check_output(["docker", "inspect", "-f", "{{.State.Pid}}", container], text=True)
        return int(shown)

    def start(self) -> None:
        """Start the container and wait until it answers."""
        if self._extra:
            raise RuntimeError("a server in a container takes no further arguments")
        self._compose("up", "-d", "--wait", self.name)
        self._await_ready()

    def stop(self) -> None:
        """Stop the container."""
        self._compose("unpause", self.name, check=False)
        self._compose("stop", "-t", "5", self.name, check=False)

    def kill(self) -> None:
        """Kill the container."""
        self._compose("kill", self.name, check=False)

    def pause(self) -> None:
        """Freeze the container."""
        self._compose("pause", self.name)

    def resume(self) -> None:
        """Let the container run again."""
        self._compose("unpause", self.name)

    def close(self) -> None:
        """Remove the container and its network."""
        self._compose("down", "-v", "-t", "2", check=False)
        super().close()

    def _compose(self, *command: str, check: bool = True) -> str:
        env = {**os.environ, f"SMW_{self.name.upper()}_PORT": str(self.port)}
        whole = ["docker", "compose", "-f", str(ROOT / "compose.yaml"), "-p", self._project, *command]
        done = subprocess.run(whole, env=env, capture_output=True, text=True, timeout=180, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"docker compose {' '.join(command)}: {done.stderr.strip()[-400:]}")
        return done.stdout.strip()


def launch(spec: Spec, found: Found, *extra: str, begun: bool = True) -> Server:
    """Start a server of its own, or leave that to the caller, who closes it (else the end of the process does)."""
    last: RuntimeError | None = None
    for _ in range(3):  # another process may take the port between the look and the start
        server = (Server if found.program else ComposeServer)(spec, found, *extra)
        if not begun:
            return server
        try:
            server.start()
        except RuntimeError as error:
            server.close()
            last = error
        else:
            return server
    raise last or RuntimeError(spec.name)
