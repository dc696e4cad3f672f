"""A pytest plugin that puts all four middlewares of smw around every application of Flask's test suite."""

from __future__ import annotations

import types
from typing import Any

from flask import Flask
from smw_around import WAY, replace, stack, through

from smw.web.flask import install
from smw.web.wsgi_app import WsgiApp

STACK = "_smw_outside"


def counting(before: Any) -> Any:
    """Note what passes through smw, and how often the application's own exception came out again."""

    def serve(self: WsgiApp, environ: Any, start_response: Any) -> Any:
        through["http"] += 1
        try:
            return before(self, environ, start_response)
        except BaseException:
            through["raised"] += 1
            raise

    return serve


def outside(before: Any) -> Any:
    """Call an application, as a server or the test client does, through smw."""

    def call(self: Flask, environ: Any, start_response: Any) -> Any:
        wrapped = vars(self).get(STACK)
        if wrapped is None:
            wrapped = vars(self)[STACK] = stack(types.MethodType(before, self))
        return wrapped(environ, start_response)

    return call


def installed(before: Any) -> Any:
    """Make every application with smw on it."""

    def init(self: Flask, *args: Any, **options: Any) -> None:
        before(self, *args, **options)
        install(self)

    return init


replace(WsgiApp, "serve", counting)
if WAY != "inside":
    replace(Flask, "__call__", outside)
if WAY != "outside":
    replace(Flask, "__init__", installed)
