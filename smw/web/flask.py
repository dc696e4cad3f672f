"""Puts the whole stack on a Flask application in one call, and lets it refuse inside; decides no refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from smw.errors import ConfigError
from smw.web.adapter import Adapter, bare
from smw.web.middleware import ENTERPRISE_MIDDLEWARE_STACK
from smw.web.wsgi_route import EXCHANGE, MATCHED

if TYPE_CHECKING:
    from smw.web.wsgi import WsgiExchange

__all__ = ["install"]

A = TypeVar("A")
_MARKS = ("wsgi_app", "url_map", "extensions", "handle_user_exception", "response_class")


def install(app: A, profile: str | None = None) -> A:
    """Put monitoring, security, pipeline and response cache on `app`; before or after its routes.

    Views, blueprints, error handlers and the test client work as they did. Call it after other wrappers of
    ``app.wsgi_app`` when smw should be outermost, which lets it see what those answer.

    Args:
        app: A Flask application.
        profile: ``development``, ``testing`` or ``production``; None is the runtime's.

    Returns:
        `app` itself.

    Raises:
        ConfigError: `app` is something else, has smw already, or the profile is unknown.
    """
    flask = bare(app, "flask", _MARKS)
    if _has_smw(flask.wsgi_app):
        fix = "keep either install(app) or the lines that set app.wsgi_app"
        raise ConfigError("SMW-W103", "this application already has a middleware of smw", fix=fix)
    wrapped = flask.wsgi_app
    for middleware_class, config in reversed(ENTERPRISE_MIDDLEWARE_STACK):
        wrapped = middleware_class.configured(profile, config)(wrapped)
    flask.wsgi_app = wrapped
    answer_refusals(flask)
    return app


def answer_refusals(app: Any) -> None:
    """Let refusals reach the client as what they are, where Flask would make 500 of them; idempotent.

    A handler of the application's own, for the exception or a base class of it, still comes first. What follows is
    Flask's: ``after_request`` functions see the answer.

    Args:
        app: A Flask application with the security middleware.
    """
    if "smw" in app.extensions:
        return
    app.extensions["smw"] = True
    handle = app.handle_user_exception

    def handle_user_exception(error: Exception) -> Any:
        from flask import request

        exchange: WsgiExchange | None = request.environ.get(EXCHANGE)
        if request.url_rule is not None:
            request.environ[MATCHED] = request.url_rule.rule  # not to be found any more when `error` comes out
        try:
            return handle(error)
        except Exception as raised:
            reply = None
            if raised is error and exchange is not None and exchange.refuses is not None:
                exchange.note_input()
                reply = exchange.refuses.refusal(exchange, error)
            if reply is None:
                raise
            if exchange is not None:
                exchange.forgive()
            return app.response_class(reply.body, reply.status, list(reply.headers))

    app.handle_user_exception = handle_user_exception


def _has_smw(app: Any) -> bool:
    while app is not None:
        if isinstance(app, Adapter):
            return True
        app = getattr(app, "app", None)
    return False
