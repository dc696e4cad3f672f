"""Which route template served a WSGI exchange, read from what Flask leaves in the environ; imports no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smw.web.route import RECALLED

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EXCHANGE", "MATCHED", "Routes", "flask_below"]

EXCHANGE = "smw.exchange"
"""Where an environ has the exchange while the application runs, if a policy can tell the answer to its exceptions."""
MATCHED = "smw.matched"
"""Where an environ has the template of a Flask route whose view has raised."""
_REQUEST = "werkzeug.request"
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
    """Finds templates for the exchanges of one application.

    Flask's request context is gone when the call returns, and so is the request object that werkzeug puts into the
    environ. But it is there when the application calls ``start_response``, and it has the rule.

    Args:
        owner: The Flask application, where there is one.
    """

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._mounts: set[str] = set()

    def matched(self, environ: Mapping[str, Any]) -> str | None:
        """Return the template of the route that is being served; to be asked while it is."""
        request = environ.get(_REQUEST)
        rule = getattr(request, "url_rule", None)
        if rule is not None:
            return str(rule.rule)
        allowed = getattr(getattr(request, "routing_exception", None), "valid_methods", None)
        if not allowed or self._owner is None:
            return None
        # 405 is an answer of its route, not a missing one.
        rule, _ = self._owner.create_url_adapter(request).match(method=next(iter(allowed)), return_rule=True)
        return str(rule.rule)

    def template(self, environ: Mapping[str, Any], script_name: str, matched: str | None) -> str | None:
        """Return the whole template, the prefix of an application mounted below included, or None.

        Args:
            environ: As the application has left it.
            script_name: What its ``SCRIPT_NAME`` was before.
            matched: What `matched` returned.
        """
        leaf: str | None = environ.get(RECALLED) or matched or environ.get(MATCHED)
        inner: str = environ.get("SCRIPT_NAME", "")
        if leaf is None or inner == script_name:
            return leaf
        return self._mount(inner.removeprefix(script_name)) + leaf

    def _mount(self, prefix: str) -> str:
        """Return a prefix as it is, as long as there are few of them: then it is no part of the path that varies."""
        if prefix not in self._mounts:
            if len(self._mounts) >= _MOUNTS_MOST:
                return "/{mount}"
            self._mounts.add(prefix)
        return prefix
