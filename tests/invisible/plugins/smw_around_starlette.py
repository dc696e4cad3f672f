"""A pytest plugin that puts all four middlewares of smw around every application of a Starlette test suite.

An application that is no Starlette gets them outside when they are to be `inside`, too.
"""

from __future__ import annotations

from typing import Any

import httpx2
from smw_around import WAY, replace, stack, through
from starlette import testclient
from starlette.applications import Starlette
from starlette.middleware import Middleware

from smw.web import ENTERPRISE_MIDDLEWARE_STACK
from smw.web.adapter import Adapter


def wanted(app: Any) -> Any:
    """Return what a client is to call instead of `app`."""
    return app if WAY == "inside" and isinstance(app, Starlette) else stack(app)


def counting(before: Any) -> Any:
    """Note what passes through smw."""

    async def call(self: Adapter, scope: Any, receive: Any, send: Any) -> None:
        through[scope["type"]] += 1
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
