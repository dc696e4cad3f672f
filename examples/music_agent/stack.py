"""What both web sides of the service share: its settings, its middlewares, and who is asking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import smw
from examples.music_agent import events, store
from smw import security
from smw.web import PipelineMiddleware

CATALOGUE = Path(__file__).with_name("catalogue.toml")
# What this service wants besides: its event stream is handled in its own process.
MORE: dict[type, dict[str, Any]] = {PipelineMiddleware: {"in_app": [events.STREAM]}}


def configure(home: Path | None) -> None:
    """Open the database and configure smw.

    Args:
        home: Folder for the database and the audit log; None keeps both in memory.
    """
    store.use(store.Database(home / "music.sqlite" if home else ":memory:"))
    smw.configure(
        service="music-agent",
        security={
            "catalogue": CATALOGUE,
            "trail_dir": home / "audit" if home else None,
            "trusted_proxies": ["127.0.0.1/32"],
            "rate_limit": "600/minute",
        },
    )


def listener(user: str, authentication: str | None) -> security.Principal:
    """Return who is asking; in front of the service a gateway has authenticated the user."""
    return security.Principal(
        id=user,
        roles=frozenset({"listener"}),
        authentication="mfa" if authentication == "mfa" else "password",
        idle_s=0.0,
    )
