"""Which protocol an application speaks, read from how it is called; imports no framework."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Literal, NoReturn

from smw.errors import ConfigError

__all__ = ["Protocol", "called_wrongly", "protocol_of"]

Protocol = Literal["asgi", "wsgi"]
_SERVERS = {
    "asgi": "an ASGI server: uvicorn module:app, or gunicorn with an ASGI worker",
    "wsgi": "a WSGI server: gunicorn module:app, or waitress-serve module:app",
}
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


def called_wrongly(app: Any, protocol: Protocol, arguments: int) -> NoReturn:
    """Refuse a call that belongs to another protocol than the application's.

    Raises:
        ConfigError: Always; names the server that fits.
    """
    what = f"{type(app).__name__} stands on {protocol.upper()}, and was called as {_other(protocol)}"
    seen = f"a call with {arguments} argument{'' if arguments == 1 else 's'} instead of {_ARGUMENTS[protocol]}"
    raise ConfigError("SMW-W105", what, seen=seen, fix=f"serve it by {_SERVERS[protocol]}")


def _other(protocol: Protocol) -> str:
    return "WSGI" if protocol == "asgi" else "ASGI"
