"""What cannot be read off a Flask request about its route: wrong methods, prefixes of mounts; imports no framework."""

from __future__ import annotations

from typing import Any

__all__ = ["EXCHANGE", "MATCHED", "REQUEST", "Routes", "flask_below"]

EXCHANGE = "smw.exchange"
"""Where an environ has the exchange while the application runs, if a policy can tell the answer to its exceptions."""
MATCHED = "smw.matched"
"""Where an environ has the template of a Flask route whose view has raised."""
REQUEST = "werkzeug.request"
"""Where werkzeug keeps the request object while it is served."""
_MOUNTS_MOST = 100
_DEEPEST = 100


def flask_below(app: Any) -> Any:
    """Return the Flask application that `app` ends in, looking through middlewares; None where it is another."""
    for _ in range(_DEEPEST):
        if hasattr(app, "wsgi_app") and hasattr(app, "handle_user_exception"):
            return app
        owner = getattr(app, "__self__", None)  # `flask_app.wsgi_app` is a method of what is looked for
        app = owner if owner is not None else getattr(app, "app", None)
    return None


class Routes:
    """What the exchanges of one application need to know beyond the rule of their request.

    Flask's request context is gone when the call returns, and so is the request object that werkzeug puts into the
    environ. But it is there when the application calls ``start_response``, and it has the rule; so it is read then.

    Args:
        owner: The Flask application, where there is one.
    """

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._mounts: set[str] = set()

    def without_rule(self, request: Any) -> str | None:
        """Return the template that a request without a rule was for: 405 is an answer of its route."""
        allowed = getattr(request.routing_exception, "valid_methods", None)
        if not allowed or self._owner is None:
            return None
        rule, _ = self._owner.create_url_adapter(request).match(method=next(iter(allowed)), return_rule=True)
        return str(rule.rule)

    def mount(self, prefix: str) -> str:
        """Return a prefix as it is, as long as there are few of them: then it is no part of the path that varies."""
        if prefix not in self._mounts:
            if len(self._mounts) >= _MOUNTS_MOST:
                return "/{mount}"
            self._mounts.add(prefix)
        return prefix
