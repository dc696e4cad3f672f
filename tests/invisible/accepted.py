"""The differences that users of smw want, each with its reason; one that no longer shows fails the run as well."""

from __future__ import annotations

from tests.invisible.compare import Accepted

__all__ = ["ACCEPTED"]

ACCEPTED: dict[str, tuple[Accepted, ...]] = {
    "starlette": (),
    "flask": (
        Accepted(
            "tests/test_basic.py::test_app_freed_on_zero_refcount",
            ("inside", "both"),
            "Any middleware put into app.wsgi_app, as Flask's pages have it, refers to the application that holds it: "
            "the garbage collector frees such an application, not the end of its last reference. A weak reference "
            "would let go of one that a server or a dispatcher knows by its wsgi_app alone.",
        ),
    ),
}
