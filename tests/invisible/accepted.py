"""The differences that users of smw want, each with its reason; one that no longer shows fails the run as well."""

from __future__ import annotations

from tests.invisible.compare import Accepted

__all__ = ["ACCEPTED"]

ACCEPTED: dict[str, tuple[Accepted, ...]] = {"starlette": ()}
