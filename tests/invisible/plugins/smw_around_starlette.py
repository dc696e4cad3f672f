"""A pytest plugin that puts all four middlewares of smw around every application of a Starlette test suite.

INVISIBLE_WAY says where: `outside` of the application as the server calls it, `inside` as `add_middleware` does (an
application that is no Starlette gets them outside then, too), or `both`. Each test has a production runtime of its
own, without rate limit, because a suite is one client that asks a thousand times a minute.
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

import httpx2
import pytest
from starlette import testclient
from starlette.applications import Starlette
from starlette.middleware import Middleware

import smw
from smw.web import ENTERPRISE_MIDDLEWARE_STACK
from smw.web.adapter import Adapter

WAY = os.environ["INVISIBLE_WAY"]
_through: Counter[str] = Counter()
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


def wanted(app: Any) -> Any:
    """Return what a client is to call instead of `app`."""
    return app if WAY == "inside" and isinstance(app, Starlette) else stack(app)


def replace(owner: type, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a method by what `make` makes of it."""
    before = getattr(owner, name)
    setattr(owner, name, functools.wraps(before)(make(before)))


def counting(before: Any) -> Any:
    """Note what passes through smw."""

    async def call(self: Adapter, scope: Any, receive: Any, send: Any) -> None:
        _through[scope["type"]] += 1
        await before(self, scope, receive, send)

    return call


def test_client(before: Any) -> Any:
    """Give the client an application with smw around it."""

    def init(self: Any, app: Any, *args: Any, **options: Any) -> None:
        asgi3 = app if testclient._is_asgi3(app) else testclient._WrapASGI2(app)
        before(self, wanted(asgi3), *args, **options)

    return init


def transport(before: Any) -> Any:
    """Give the transport an application with smw around it."""

    def init(self: Any, app: Any, *args: Any, **options: Any) -> None:
        before(self, wanted(app), *args, **options)

    return init


def middleware_stack(before: Any) -> Any:
    """Build the application's middlewares with smw as the outermost of them, as `install` adds it."""

    def build(self: Starlette) -> Any:
        own = self.user_middleware
        self.user_middleware = [*(Middleware(cls, **options) for cls, options in ENTERPRISE_MIDDLEWARE_STACK), *own]
        try:
            return before(self)
        finally:
            self.user_middleware = own

    return build


replace(Adapter, "__call__", counting)
replace(testclient.TestClient, "__init__", test_client)
replace(httpx2.ASGITransport, "__init__", transport)
if WAY != "outside":
    replace(Starlette, "build_middleware_stack", middleware_stack)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run each test under a runtime of its own."""
    before = _through.total()
    complaints.running = item.nodeid
    smw.configure("production", service="invisible", security={"rate_limit": None})
    try:
        return (yield)
    finally:
        smw.shutdown()
        if _through.total() > before:
            _tests.add(item.nodeid)


def pytest_unconfigure() -> None:
    """Say how much passed through smw, beside how the tests ended."""
    path = Path(os.environ["INVISIBLE_RESULT"])
    if path.exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        result |= {"through": _through, "tests": len(_tests), "complaints": _complaints}
        path.write_text(json.dumps(result), encoding="utf-8")
