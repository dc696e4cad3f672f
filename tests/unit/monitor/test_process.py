"""Memory and CPU: real figures, a window of their own, the allotment of the container."""

from __future__ import annotations

import os

import psutil
import pytest

from smw.monitor.process import Processes, allotted_cpus, memory_limit_bytes


def figures(facts):
    return {reading.instrument.name: reading.rows[0][1][0] for reading in facts.read()}


def test_memory_is_this_process(clock):
    """Resident memory is what psutil says of this process."""
    seen = figures(Processes(clock))["memory_usage_bytes"]
    assert seen == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_two_scrapers_see_the_same_cpu(clock, monkeypatch):
    """CPU is measured over a window of at least a second that scrapes do not shorten."""
    facts = Processes(clock)
    figures(facts)
    used = [0.0]
    monkeypatch.setattr(facts._own, "_cpu_s", lambda: used[0])
    facts._own._used_s, facts._own._cpus = 0.0, 2.0
    clock.advance(2.0)
    used[0] = 1.0
    first = figures(facts)["cpu_usage_percent"]
    used[0] = 1.9
    clock.advance(0.5)
    assert first == figures(facts)["cpu_usage_percent"] == pytest.approx(25.0)
    clock.advance(0.5)
    assert figures(facts)["cpu_usage_percent"] == pytest.approx(45.0)


def test_the_first_figure_covers_the_life_of_the_process(clock):
    """Before the first window has passed, the share of the whole life is shown, never a negative or odd number."""
    clock.step_wall(psutil.Process().create_time() + 100 - clock.wall())
    times = psutil.Process().cpu_times()
    seen = figures(Processes(clock))["cpu_usage_percent"]
    assert seen == pytest.approx((times.user + times.system) / allotted_cpus(), rel=0.2)
    clock.step_wall(-1000)
    assert figures(Processes(clock))["cpu_usage_percent"] == 0.0


def test_the_quota_of_the_container_counts(tmp_path):
    """The cgroup's quota is the allotment; without one, or with nonsense, it is the CPUs that may be used."""
    usable = len(os.sched_getaffinity(0))
    assert allotted_cpus(tmp_path) == usable
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert allotted_cpus(tmp_path) == 0.5
    for text in ("max 100000\n", "", "5 0\n", "x y"):
        (tmp_path / "cpu.max").write_text(text)
        assert allotted_cpus(tmp_path) == usable


def test_the_memory_limit_of_the_container_counts(tmp_path):
    """The cgroup's limit, else the machine's memory."""
    assert memory_limit_bytes(lambda: 7, tmp_path) == 7
    (tmp_path / "memory.max").write_text("1048576\n")
    assert memory_limit_bytes(lambda: 7, tmp_path) == 1048576
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit_bytes(lambda: 7, tmp_path) == 7
