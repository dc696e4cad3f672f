"""How a process ends: exit callbacks wherever Python forgets them, and a signal as a clean exit."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import smw
from smw._kernel.ending import at_exit
from smw.errors import ConfigError

BEGIN = """
import atexit, os, signal, sys, threading, time
import smw
from smw._kernel.ending import at_exit
at_exit(lambda: print("flushed", flush=True))
def term():
    os.kill(os.getpid(), signal.SIGTERM)
"""
BLOCK = """
smw.install_signal_handlers()
smw.install_signal_handlers()
try:
    term()
    time.sleep(5)
finally:
    print("left", flush=True)
"""
TWICE = """
smw.install_signal_handlers()
def slow():
    term()
    print("slow", flush=True)
atexit.register(slow)
term()
time.sleep(5)
"""
CHAINED = """
signal.signal(signal.SIGTERM, lambda *_: print("mine", flush=True))
smw.install_signal_handlers()
term()
print("goes on", flush=True)
"""
IGNORED = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
smw.install_signal_handlers()
term()
print("goes on", flush=True)
"""
LOOP = """
import asyncio
smw.install_signal_handlers()
async def main():
    try:
        term()
        await asyncio.sleep(5)
    finally:
        print("left", flush=True)
asyncio.run(main())
"""
# Code that runs as a module of smw does, with a lock of the standard library in its hand.
OWN = """
smw.install_signal_handlers()
inner = {"__name__": "smw.pretended", "signal": signal, "threading": threading}
exec('''
def locked():
    with threading.Lock():
        signal.raise_signal(signal.SIGTERM)
        for _ in range(1000):
            threading.current_thread()
    print("unlocked", flush=True)
''', inner)
inner["locked"]()
time.sleep(5)
"""


def run(code):
    """Run code in an interpreter of its own; return its exit code and the lines that it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + code], capture_output=True, text=True, timeout=30, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(BLOCK, (143, ["left", "flushed"]), id="a block is left, exit callbacks run"),
        pytest.param(TWICE, (143, ["slow", "flushed"]), id="a second signal does not cut the exit short"),
        pytest.param(CHAINED, (0, ["mine", "goes on", "flushed"]), id="an earlier handler decides"),
        pytest.param(IGNORED, (0, ["goes on", "flushed"]), id="an ignored signal stays ignored"),
        pytest.param(LOOP, (143, ["left", "flushed"]), id="an event loop ends in order"),
        pytest.param(OWN, (143, ["unlocked", "flushed"]), id="smw is never interrupted half-way"),
    ],
)
def test_a_signal_ends_the_process_as_an_exit_does(code, expected):
    """Blocks are left and exit callbacks run, once; what else handles or ignores the signal keeps its say."""
    assert run(code) == expected


def test_without_handlers_nothing_changes():
    """Handling signals is opt-in: importing and using smw leaves the signal as it was."""
    assert run("smw.configure(); print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True); term()") == (
        -signal.SIGTERM,
        ["True"],
    )


def test_handlers_outside_the_main_thread_are_refused():
    """The error says where to call it instead."""
    errors = []

    def call():
        try:
            smw.install_signal_handlers()
        except ConfigError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert [error.code for error in errors] == ["SMW-K140"]
    assert "main thread" in str(errors[0])


def test_a_signal_that_nobody_can_handle_is_refused():
    """KILL is refused with the same error."""
    with pytest.raises(ConfigError, match="SMW-K140"):
        smw.install_signal_handlers([signal.SIGKILL])


def note(path, text):
    """Add a line to a file."""
    with Path(path).open("a") as file:
        file.write(text + "\n")


def fail():
    """Fail, as a callback should not."""
    raise OSError("disk")


def child(path):
    """Register two exit callbacks in a child; the one that runs first fails."""
    at_exit(lambda: note(path, "flushed"))
    at_exit(fail)
    note(path, "worked")


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_of_multiprocessing_run_the_callbacks(tmp_path, method):
    """However a child is started, what it registered runs when it ends, whatever another callback does."""
    path = tmp_path / "notes"
    context = multiprocessing.get_context(method)
    process = context.Process(target=child, args=(path,))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert path.read_text().splitlines() == ["worked", "flushed"]


FORKING = """
import multiprocessing
def child():
    print("child", os.getpid() != parent, flush=True)
parent = os.getpid()
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
print("parent", flush=True)
"""


def test_forked_children_run_what_their_parent_registered():
    """A callback of the parent runs in its forked child too, and once in each."""
    code, lines = run(FORKING)
    assert code == 0
    assert lines == ["child True", "flushed", "parent", "flushed"]
