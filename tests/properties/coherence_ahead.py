"""Searches that begin before their tests: in a process that gives way to all others, while other tests run.

What it has not found by the time the first test asks for is searched there and then, as if there were no such process.
"""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.properties.coherence_process import Setup
from tests.properties.coherence_search import Outcome, Search

ROOT = Path(__file__).parents[2]
# Its parent is a shell: a worker that looks for others like it among its siblings must not find it.
_SHELL = '"$0" -m tests.properties.coherence_ahead "$1"; exit $?'


class System(NamedTuple):
    """What is searched.

    Attributes:
        setup: What the processes do.
        events: What may happen.
        traced: Whether a broken promise is told with the steps that lead there.
    """

    setup: Setup
    events: tuple[Any, ...] = ()
    traced: bool = True

    def outcome(self) -> Outcome:
        """Return what the search finds, or has found."""
        return _ahead.outcome(self) if _ahead else self.search()

    def search(self) -> Outcome:
        """Search here and now."""
        return Search(self.setup, self.events).run(traced=self.traced)


class Ahead:
    """The searches of one run.

    Args:
        systems: What tests will ask for, in their order.
    """

    def __init__(self, systems: Sequence[System]) -> None:
        self._numbers = {repr(system): number for number, system in enumerate(systems)}
        self._home = Path(tempfile.mkdtemp(prefix="smw-searches-"))
        (self._home / "systems").write_bytes(pickle.dumps(list(systems)))
        command = ["/bin/sh", "-c", _SHELL, sys.executable, str(self._home)]
        with (self._home / "log").open("wb") as log:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    def outcome(self, system: System) -> Outcome:
        """Return what was found, or is found now."""
        number = self._numbers.get(repr(system))
        if number is not None and (found := self._home / str(number)).exists():
            outcome: Outcome = pickle.loads(found.read_bytes())
            return outcome
        self._end()  # it has not come this far: the machine is busy, and two would be slower than one
        return system.search()

    def close(self) -> None:
        """End the process and remove what it has found."""
        self._end()
        shutil.rmtree(self._home, ignore_errors=True)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate()


_ahead: Ahead | None = None


def begin(systems: Sequence[System]) -> None:
    """Begin to search these."""
    global _ahead  # noqa: PLW0603 - one for a run of pytest
    _ahead = Ahead(systems)


def end() -> None:
    """End what has begun."""
    global _ahead  # noqa: PLW0603
    if _ahead is not None:
        _ahead.close()
        _ahead = None


def main(home: Path) -> None:
    """Search all systems of a folder, and put what is found beside them."""
    os.nice(10)
    threading.Thread(target=_end_with_input, daemon=True).start()
    gc.disable()  # what a search leaves goes at once; the rest is collected behind it
    for number, system in enumerate(pickle.loads((home / "systems").read_bytes())):
        written = home / f"{number}.part"
        written.write_bytes(pickle.dumps(system.search()))
        written.rename(home / str(number))
        gc.collect()


def _end_with_input() -> None:
    sys.stdin.buffer.read()  # it closes when the tests end, however that goes
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
