"""What all scripts and workers here call: eight decorators on plain functions, which know nothing of who calls them."""

from __future__ import annotations

import itertools
import os
from typing import Any

from smw import cache, monitor, pipeline, security

runs = itertools.count(1)
plays: dict[str, int] = {}


@monitor.trace("playlist")
@monitor.track_business_metric("playlist_read")
@security.audit_log("playlist_read", resource="playlist:{playlist_id}", subject="user_id")
@security.require_compliance(["GDPR"], purpose="streaming")
@cache.cached(ttl=600, tags=["playlist:{playlist_id}"])
def playlist(playlist_id: str, user_id: str) -> dict[str, Any]:
    """Return a playlist, with the process that computed it and how many this process has computed."""
    return {"id": playlist_id, "owner": user_id, "pid": os.getpid(), "run": next(runs)}


@monitor.trace("playlist")
@security.audit_log("playlist_read", resource="playlist:{playlist_id}", subject="user_id")
@security.require_compliance(["GDPR"], purpose="streaming")
@cache.cached(ttl=600, tags=["playlist:{playlist_id}"])
async def awaited_playlist(playlist_id: str, user_id: str) -> dict[str, Any]:
    """Do the same without blocking an event loop."""
    return {"id": playlist_id, "owner": user_id, "pid": os.getpid(), "run": next(runs)}


@security.audit_log("playlist_rename", resource="playlist:{playlist_id}", subject="user_id")
@cache.invalidate(tags=["playlist:{playlist_id}"])
def rename(playlist_id: str, user_id: str, title: str) -> str:
    """Change a playlist: what was cached of it is gone when this returns."""
    return f"{user_id} named {playlist_id} {title!r}"


@pipeline.stream_process("plays")
def count_play(event: dict[str, str]) -> None:
    """Count a play of a track."""
    plays[event["track"]] = plays.get(event["track"], 0) + 1


@pipeline.batch_transform("minutes", batch_size=100)
def to_minutes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn seconds into minutes."""
    return [{"track": row["track"], "minutes": round(row["seconds"] / 60, 1)} for row in rows]
