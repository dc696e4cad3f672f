"""Which protocol an application speaks, read from how it is called; imports no framework."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Literal, NoReturn

from smw.errors import ConfigError

__all__ = ["Framework", "Protocol", "called_wrongly", "framework_of", "not_for", "protocol_of", "served_as_class"]

Protocol = Literal["asgi", "wsgi"]
Framework = Literal["fastapi", "flask"]
_SERVERS = {
    "asgi": "an ASGI server: uvicorn module:app, or gunicorn with an ASGI worker",
    "wsgi": "a WSGI server: gunicorn module:app, or waitress-serve module:app",
}
_CALLED = {"fastapi": "a FastAPI or Starlette application", "flask": "a Flask application"}
_OTHER_WORLD = {
    "fastapi": "a FastAPI or Starlette application is ASGI: from smw.web.fastapi import install",
    "flask": "a Flask application is WSGI: from smw.web.flask import install",
}
_PARTS = ("include_router", "register_blueprint")
"""Methods of what is a part of an application, and no application."""
_ARGUMENTS = {"asgi": "(scope, receive, send)", "wsgi": "(environ, start_response)"}


def protocol_of(app: Any) -> Protocol:
    """Return how `app` wants to be called.

    Something awaitable, or with three parameters, is ASGI; what takes two is WSGI. What does not tell, such as a
    wrapper with ``*args``, counts as WSGI when it is a plain function: an ASGI server would not await it either.
    A class is one where its instances are what a call returns: awaitable, or the body that a server iterates over.

    Raises:
        ConfigError: It is no application.
    """
    if isinstance(app, type):
        if hasattr(app, "__await__") and _takes(app) == 3:
            return "asgi"
        if hasattr(app, "__iter__") and _takes(app) == 2:
            return "wsgi"
    if isinstance(app, type) or not callable(app):
        fix = "pass the application itself, ASGI or WSGI"
        seen = f"the class {app.__qualname__}" if isinstance(app, type) else repr(app)
        what = "a middleware of smw was put on something that is no application"
        raise ConfigError("SMW-W105", what, seen=seen, fix=fix)
    if hasattr(app, "wsgi_app"):
        return "wsgi"
    plain = app
    while isinstance(plain, functools.partial):
        plain = plain.func
    if inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(getattr(plain, "__call__", None)):  # noqa: B004
        return "asgi"
    return "asgi" if _takes(app) == 3 else "wsgi"


def _takes(app: Any) -> int | None:
    """Return how many arguments by position `app` needs; None where it does not tell."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = {parameter.kind for parameter in parameters}
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    return sum(
        parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in parameters
    )


def called_wrongly(middleware: Any, protocol: Protocol, *arguments: Any) -> NoReturn:
    """Refuse a call that belongs to another protocol than the application's.

    Raises:
        ConfigError: Always; names the server that fits, or the line that puts the middleware where it belongs.
    """
    name = type(middleware).__name__
    if len(arguments) == 1 and callable(arguments[0]):
        what = f"a {name} stands where its class belongs, and was called with an application"
        raise ConfigError("SMW-W105", what, seen=repr(middleware), fix=f"app.add_middleware({name})")
    count = len(arguments)
    what = f"{name} stands on {protocol.upper()}, and was called as {_other(protocol)}"
    seen = f"a call with {count} argument{'' if count == 1 else 's'} instead of {_ARGUMENTS[protocol]}"
    raise ConfigError("SMW-W105", what, seen=seen, fix=f"serve it by {_SERVERS[protocol]}")


def served_as_class(middleware: type) -> ConfigError:
    """Return the error of a middleware's class that a server calls as if it were the application."""
    name = middleware.__name__
    what = f"the class {name} stands where an application belongs, and was called with a request"
    return ConfigError("SMW-W105", what, fix=f"app.wsgi_app = {name}(app.wsgi_app)")


def _other(protocol: Protocol) -> str:
    return "WSGI" if protocol == "asgi" else "ASGI"


def framework_of(app: Any) -> Framework | None:
    """Return the framework of an application, of a class of applications or of ``app.wsgi_app``; None: no known one."""
    app = getattr(app, "__self__", app)
    if hasattr(app, "wsgi_app"):
        return "flask"
    if hasattr(app, "add_middleware") and hasattr(app, "build_middleware_stack"):
        return "fastapi"
    return None


def not_for(app: Any, wanted: Framework) -> ConfigError:
    """Return the error of an `install` that was given something else; it names the line that fits.

    Args:
        app: What was given.
        wanted: What the `install` is for.
    """
    is_class = isinstance(app, type)
    kind = app if is_class else type(app)
    found = framework_of(app)
    if found not in (None, wanted):
        fix = _OTHER_WORLD[found]
    elif is_class:
        fix = "pass the application, not its class"
    elif found is not None:
        fix = "pass the application itself: install(app)"
    elif any(hasattr(app, method) for method in _PARTS):
        fix = "pass the application that this is a part of"
    elif callable(app):
        fix = "another application, ASGI or WSGI: app = smw.web.MonitoringMiddleware(app), and so on for the others"
    else:
        fix = "pass the application itself: install(app)"
    seen = f"{'the class ' if is_class else ''}{kind.__module__}.{kind.__qualname__}"
    return ConfigError("SMW-W105", f"smw.web.{wanted}.install needs {_CALLED[wanted]}", seen=seen, fix=fix)
