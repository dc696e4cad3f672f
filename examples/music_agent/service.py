"""Starts and stops the service as a process of its own; knows nothing of what it serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
_STOP_S = 20


class Service:
    """The service in a process of its own, from entering the block to its end.

    Args:
        home: Folder for its database and its audit log.
        settings: Environment variables that it gets besides those of this process.
        flask: Its Flask twin instead of the FastAPI application.

    Attributes:
        url: Where it listens.
        log: What it wrote on its standard error.
        last_words: What it said on stopping, such as how many spans it has recorded.
    """

    def __init__(self, home: Path, settings: Mapping[str, str], *, flask: bool = False) -> None:
        self._home = home
        self._more = ["--flask"] if flask else []
        self.log = home / "service.log"
        self._env = {**os.environ, **settings}
        self.url = ""
        self.last_words: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "examples.music_agent.server", str(self._home), *self._more]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, with words of our own
                command, cwd=ROOT, env=self._env, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the service did not start:\n{self.log.read_text()[-2000:]}")
        self.url = f"http://127.0.0.1:{json.loads(line)['port']}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it as an operator would: SIGTERM, and wait for its end."""
        self._process.terminate()
        try:
            said, _ = self._process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        for line in said.splitlines():
            self.last_words |= json.loads(line)
