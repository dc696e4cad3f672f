"""Puts the whole stack on a FastAPI or Starlette application in one call; the stack itself lives elsewhere."""

from __future__ import annotations

from typing import Any, TypeVar

from smw.errors import ConfigError
from smw.web.adapter import Adapter
from smw.web.middleware import ENTERPRISE_MIDDLEWARE_STACK

__all__ = ["install"]


A = TypeVar("A")
_MARKS = ("add_middleware", "user_middleware", "middleware_stack")


def install(app: A, profile: str | None = None) -> A:
    """Put monitoring, security, pipeline and response cache on `app`; before or after its routes.

    Routes, their names and the OpenAPI schema stay as they are. Call it after other ``add_middleware`` calls when
    smw should be outermost, which lets it see what those middlewares answer.

    Args:
        app: A FastAPI or Starlette application that has not served yet.
        profile: ``development``, ``testing`` or ``production``; None is the runtime's.

    Returns:
        `app` itself.

    Raises:
        ConfigError: `app` is something else, has smw already, has started, or the profile is unknown.
    """
    starlette = _checked(app)
    if any(isinstance(added.cls, type) and issubclass(added.cls, Adapter) for added in starlette.user_middleware):
        fix = "keep either install(app) or the add_middleware calls"
        raise ConfigError("SMW-W103", "this application already has a middleware of smw", fix=fix)
    if starlette.middleware_stack is not None:
        fix = "install it where the application is made"
        raise ConfigError("SMW-W104", "this application has already started, middleware cannot be added", fix=fix)
    for middleware_class, config in reversed(ENTERPRISE_MIDDLEWARE_STACK):
        starlette.add_middleware(middleware_class.configured(profile, config))
    return app


def _checked(app: Any) -> Any:
    kind = type(app)
    if not isinstance(app, type) and all(hasattr(app, mark) for mark in _MARKS):
        return app
    seen = f"{kind.__module__}.{kind.__qualname__}"
    what = "smw.web.fastapi.install needs a FastAPI or Starlette application"
    if any(base.__module__.partition(".")[0] == "flask" for base in kind.__mro__):
        fix = "a Flask application is WSGI: from smw.web.flask import install"
    elif isinstance(app, type):
        fix = "pass the application, not its class"
    else:
        fix = "another application, ASGI or WSGI: app = smw.web.MonitoringMiddleware(app), and so on for the others"
    raise ConfigError("SMW-W105", what, seen=seen, fix=fix)
