"""Several workers without a server: the first drop says that the others do not hear of it."""

from __future__ import annotations

import logging
import os
import sys

import pytest

from smw._kernel import workers
from smw._kernel.workers import is_one_of_several, workers_of
from smw.cache import Cache, invalidate
from smw.testing import isolated

TOLD = "a drop reaches the memory of this worker alone"


def warnings_of(caplog) -> int:
    return sum(TOLD in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("how", ["drop", "invalidate", "clear", "region"])
def test_the_first_drop_of_one_worker_among_several_warns_once(monkeypatch, caplog, how):
    """In production, and where the environment asks for several workers, one warning names the remedy."""
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    with isolated("production") as runtime, caplog.at_level(logging.WARNING, "smw.cache"):
        change = invalidate(tags=["t"])(lambda: None)
        for _ in range(2):
            if how == "invalidate":
                change()
            elif how == "clear":
                runtime.cache.clear_sync()
            elif how == "region":
                runtime.cache.region("r").drop_sync(keys=["a"])
            else:
                runtime.cache.drop_sync(tags=["t"])
    assert warnings_of(caplog) == 1
    assert "CACHE_L2_URL" in caplog.text


@pytest.mark.parametrize(
    ("profile", "count", "settings"),
    [
        ("development", "4", {}),
        ("production", "1", {}),
        ("production", "4", {"l2_host": "memory://alone"}),
        ("production", "4", {"enabled": False}),
        ("production", "4", {"l1_size": 0}),
    ],
)
def test_nothing_is_said_where_nobody_is_left_out(monkeypatch, caplog, profile, count, settings):
    """One worker, a server, no memory, or a developer's machine: no warning."""
    monkeypatch.setenv("WEB_CONCURRENCY", count)
    with isolated(profile, cache=settings) as runtime, caplog.at_level(logging.WARNING, "smw.cache"):
        runtime.cache.drop_sync(tags=["t"])
    assert warnings_of(caplog) == 0


@pytest.mark.parametrize(
    ("argv", "workers"),
    [
        (["/venv/bin/gunicorn", "-w", "4", "app:app"], 4),
        (["/venv/lib/uvicorn/__main__.py", "app:app", "--workers=2"], 2),
        (["/venv/bin/uvicorn", "app:app"], 1),
        (["job.py", "-w", "4"], 1),
    ],
)
def test_a_server_s_command_line_tells_its_workers(argv, workers):
    """gunicorn and uvicorn are asked for workers by arguments too; other programs mean other things by them."""
    assert workers_of({}, argv) == workers


def test_gunicorn_s_workers_are_counted_where_only_a_file_tells_of_them(monkeypatch):
    """Its settings file is in no environment and on no command line: the children of its arbiter say how many."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.setattr(sys, "argv", ["/venv/bin/gunicorn", "app:app"])
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", workers)
    told = []
    for others in (0, 2):
        monkeypatch.setattr(workers, "_same_parent", lambda *, without, others=others: others)
        told.append(is_one_of_several())
    assert told == [False, True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_one_of_several(monkeypatch):
    """Who imported the application before it forked has fellows; the process of these tests has none."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.setattr(sys, "argv", ["app.py"])
    assert not is_one_of_several()
    child = os.fork()
    if child == 0:
        os._exit(42 if is_one_of_several() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def test_an_explicit_cache_is_asked_for_itself(monkeypatch, caplog):
    """A cache that was made by hand has the profile of its host, which is not production's."""
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    with caplog.at_level(logging.WARNING, "smw.cache"):
        Cache().drop_sync(tags=["t"])
    assert warnings_of(caplog) == 0
