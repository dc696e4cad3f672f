"""Refusals as problem details (RFC 9457), free of anything personal; decides no refusal."""

from __future__ import annotations

import json

from smw.web.exchange import Reply

__all__ = ["problem"]

_TITLES = {
    403: "Forbidden",
    405: "Method Not Allowed",
    413: "Content Too Large",
    429: "Too Many Requests",
    503: "Service Unavailable",
}


def problem(status: int, detail: str, *, code: str, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """Return the reply that refuses an exchange.

    Args:
        status: HTTP status code, one of 403, 405, 413, 429, 503.
        detail: One sentence for people; constant text, no data of this request.
        code: Stable code of the refusal, such as ``SMW-W403``.
        headers: Further header fields.
    """
    body = {"type": "about:blank", "title": _TITLES[status], "status": status, "detail": detail, "code": code}
    fields = (("content-type", "application/problem+json"), ("cache-control", "no-store"), *headers)
    return Reply(status, json.dumps(body).encode(), fields)
