"""The helpers that users test with."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import smw
from smw._kernel.signals import BackendDown, BackendUp
from smw.testing import FakeClock, Recorded, SeededEntropy, isolated


def test_a_fake_clock_moves_only_when_told() -> None:
    """Both clocks advance together; the wall clock can step alone."""
    clock = FakeClock(wall=10, now=1)
    clock.advance(5)
    assert (clock.wall(), clock.now()) == (15, 6)
    clock.step_wall(-3600)
    assert (clock.wall(), clock.now()) == (-3585, 6)


async def test_sleeping_waits_for_the_clock() -> None:
    """A sleeper wakes when the time has been advanced, not before."""
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(60))
    await asyncio.sleep(0.01)
    assert not task.done()
    clock.advance(60)
    await asyncio.wait_for(task, 2)


def test_pausing_waits_for_the_clock_in_another_thread() -> None:
    """The blocking form likewise."""
    clock, done = FakeClock(), threading.Event()
    thread = threading.Thread(target=lambda: (clock.pause(60), done.set()))
    thread.start()
    assert not done.wait(0.05)
    clock.advance(60)
    assert done.wait(2)
    thread.join()


def test_seeded_entropy_repeats() -> None:
    """Same seed, same values."""
    first, second = SeededEntropy(7), SeededEntropy(7)
    assert (first.random(), first.token_bytes(4)) == (second.random(), second.token_bytes(4))


def test_recorded_signals_can_be_asked_by_kind() -> None:
    """Signals are kept in order and by kind, until the recording ends."""
    with isolated() as runtime:
        recorded = Recorded(runtime.host)
        runtime.host.bus.send(BackendDown("redis", "refused"))
        runtime.host.bus.send(BackendUp("redis"))
        recorded.end()
        runtime.host.bus.send(BackendUp("redis"))
    assert recorded.of(BackendDown) == [BackendDown("redis", "refused")]
    assert len(recorded.all) == 2


def test_time_passes_for_the_cache_when_the_clock_is_advanced() -> None:
    """A user's test expires an entry without sleeping."""
    calls = []
    clock = FakeClock()

    @smw.cached(60)
    def price(sku: str) -> int:
        calls.append(sku)
        return len(calls)

    with isolated(clock=clock):
        assert (price("a"), price("a")) == (1, 1)
        clock.advance(61)
        assert price("a") == 2


def test_the_fixtures_work_in_a_users_suite(tmp_path: Path) -> None:
    """pytest finds the fixtures by plugin name, and they give runtime, clock and signals."""
    (tmp_path / "test_user.py").write_text(
        "import smw\n"
        "@smw.cached(60)\n"
        "def f(x: int) -> list[int]:\n"
        "    return [x]\n"
        "def test_it(smw_isolated, smw_clock, smw_signals):\n"
        "    assert f(1) == [1]\n"
        "    smw_clock.advance(61)\n"
        "    assert smw_isolated.host.clock is smw_clock\n"
        "    assert smw_signals.all == []\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "smw.pytest_plugin", "-p", "no:cacheprovider", str(tmp_path)]
    env = {"PYTHONPATH": ":".join(sys.path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert "1 passed" in result.stdout, result.stdout + result.stderr
