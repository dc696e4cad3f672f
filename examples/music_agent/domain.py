"""What the service does, and what smw adds to it: one decorator a line, the outermost on top."""

from __future__ import annotations

from typing import Any

from examples.music_agent.store import db
from smw import cache, monitor, security


@monitor.trace("get_playlist")
@security.audit_log("playlist_read", resource="playlist:{playlist_id}", subject="user_id")
@security.require_compliance(["GDPR"])
@cache.cached(ttl=120, tags=["user:{user_id}"])
async def get_playlist(user_id: str, playlist_id: str) -> dict[str, Any] | None:
    """Return a playlist of a user; reads of personal data are recorded, answered from the cache or not."""
    return await db().playlist(user_id, playlist_id)


@monitor.trace("list_playlists")
@cache.cached(ttl=120, tags=["user:{user_id}"])
async def list_playlists(user_id: str) -> list[dict[str, Any]]:
    """Return all playlists of a user."""
    return await db().playlists(user_id)


@monitor.trace("create_playlist")
@monitor.track_business_metric("playlist_created")
@cache.invalidate(tags=["user:{user_id}"])
async def create_playlist(user_id: str, name: str) -> dict[str, Any]:
    """Make a playlist; what was cached of this user is dropped before the call returns."""
    return await db().add_playlist(user_id, name)


@cache.cached(ttl=600, levels=("l1", "l3"))
async def get_track(track_id: int) -> dict[str, Any] | None:
    """Return a track; tracks are many and cheap to lose, so they stay out of Redis."""
    return await db().track(track_id)


@monitor.trace("search")
@monitor.track_business_metric("search")
@cache.cached(ttl=300, levels=("l1", "l3"))
async def search(words: str) -> list[dict[str, Any]]:
    """Find tracks by words of their title."""
    return await db().find(words)


@monitor.trace("export_user_data")
@security.audit_log("user_data_access", subject="user_id")
@security.require_compliance(["GDPR"])
async def export_user_data(user_id: str) -> dict[str, Any] | None:
    """Return everything kept about a user."""
    user = await db().user(user_id)
    return None if user is None else {**user, "playlists": await list_playlists(user_id)}


@monitor.trace("record_payment")
@monitor.track_business_metric("payment")
@security.audit_log("payment", subject="user_id", keep=["cents"])
@security.require_compliance(["PCI-DSS"])
async def record_payment(user_id: str, cents: int, card_token: str) -> int:
    """Book a payment with a token in place of the card number."""
    return await db().add_payment(user_id, cents, card_token)
