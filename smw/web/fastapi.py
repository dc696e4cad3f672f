"""Puts the whole stack on a FastAPI or Starlette application in one call; the stack itself lives elsewhere."""

from __future__ import annotations

from typing import TypeVar

from smw.errors import ConfigError
from smw.web.adapter import Adapter, bare
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
    starlette = bare(app, "fastapi", _MARKS)
    if any(isinstance(added.cls, type) and issubclass(added.cls, Adapter) for added in starlette.user_middleware):
        fix = "keep either install(app) or the add_middleware calls"
        raise ConfigError("SMW-W103", "this application already has a middleware of smw", fix=fix)
    if starlette.middleware_stack is not None:
        fix = "install it where the application is made"
        raise ConfigError("SMW-W104", "this application has already started, middleware cannot be added", fix=fix)
    for middleware_class, config in reversed(ENTERPRISE_MIDDLEWARE_STACK):
        starlette.add_middleware(middleware_class.configured(profile, config))
    return app
