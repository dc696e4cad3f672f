"""What every plugin that puts smw around applications needs: a runtime for each test, and a count of what went through.

INVISIBLE_WAY says where smw stands: `outside` of the application as the server calls it, `inside` as `install` puts
it, or `both`. Each test has a production runtime of its own, without rate limit, because a suite is one client that
asks a thousand times a minute.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import smw
from smw.web import ENTERPRISE_MIDDLEWARE_STACK

WAY = os.environ["INVISIBLE_WAY"]
through: Counter[str] = Counter()
_tests: set[str] = set()
_complaints: list[str] = []


class Complaints(logging.Handler):
    """Keeps the errors that smw logs instead of raising them."""

    running = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        error = f": {record.exc_info[1]!r}" if record.exc_info else ""
        _complaints.append(f"{self.running}: {record.getMessage()}{error}")


complaints = Complaints(logging.ERROR)
logging.getLogger("smw").addHandler(complaints)


def stack(app: Any) -> Any:
    """Put all four around an application."""
    for middleware, options in reversed(ENTERPRISE_MIDDLEWARE_STACK):
        app = middleware(app, **options)
    return app


def replace(owner: type, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a method by what `make` makes of it."""
    before = getattr(owner, name)
    setattr(owner, name, functools.wraps(before)(make(before)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run each test under a runtime of its own."""
    before = through.total()
    complaints.running = item.nodeid
    smw.configure("production", service="invisible", security={"rate_limit": None})
    try:
        return (yield)
    finally:
        smw.shutdown()
        if through.total() > before:
            _tests.add(item.nodeid)


def pytest_unconfigure() -> None:
    """Say how much passed through smw, beside how the tests ended."""
    path = Path(os.environ["INVISIBLE_RESULT"])
    if path.exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        result |= {"through": through, "tests": len(_tests), "complaints": _complaints}
        path.write_text(json.dumps(result), encoding="utf-8")
