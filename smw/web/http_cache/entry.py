"""What the response cache keeps of a response, and its form in the store; knows no rule of when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Stored"]

_FORM = 1


@dataclass(frozen=True, slots=True)
class Stored:
    """A complete response.

    Args:
        status: Status code.
        headers: Header fields as they will be sent again.
        body: The whole body.
        vary: Names of the request fields it depends on.
        stored_at: Seconds since the epoch at which it was received.
        age_s: Its age when it was received.
        lifetime_s: How long it is fresh, counted from age 0.
        shared: The application said that it is meant for everybody.
        route: Template of the route that made it, None where none did.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    vary: tuple[str, ...]
    stored_at: float
    age_s: float
    lifetime_s: float
    shared: bool
    route: str | None = None

    def field(self, name: str) -> str | None:
        """Return the first header field of that lower-case name."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    def current_age_s(self, now: float) -> float:
        """Return its age at `now`; a clock that stepped back counts as no time passed."""
        return self.age_s + max(0.0, now - self.stored_at)

    def completed(self, body: bytes, route: str | None) -> Stored:
        """Return the same response with what is known only at its end."""
        return replace(self, body=body, route=route)

    def dump(self) -> dict[str, Any]:
        """Return plain values for the store."""
        return {
            "form": _FORM, "status": self.status, "headers": [list(pair) for pair in self.headers], "body": self.body,
            "vary": list(self.vary), "at": self.stored_at, "age": self.age_s, "life": self.lifetime_s,
            "shared": self.shared, "route": self.route,
        }  # fmt: skip

    @classmethod
    def load(cls, plain: Any) -> Stored | None:
        """Read what `dump` wrote; None for anything else, such as the form of another version."""
        try:
            if plain["form"] != _FORM:
                return None
            headers = tuple((name, value) for name, value in plain["headers"])
            route = plain.get("route")  # entries of older versions have none
            return cls(
                plain["status"], headers, plain["body"], tuple(plain["vary"]),
                stored_at=plain["at"], age_s=plain["age"], lifetime_s=plain["life"], shared=plain["shared"],
                route=None if route is None else str(route),
            )  # fmt: skip
        except (TypeError, KeyError, ValueError):
            return None
