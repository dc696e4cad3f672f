"""What happens to the stream of user events: each play is noted once, whatever fails on the way."""

from __future__ import annotations

import os
from typing import Any

from examples.music_agent.store import db
from smw import monitor, pipeline

STREAM = os.environ.get("USER_EVENTS_STREAM", "user_events")


@pipeline.stream_process(STREAM, retry=pipeline.Retry(times=3, first=0.02, factor=2, cap=0.2))
@monitor.trace("note_play")
async def note_play(event: dict[str, Any]) -> None:
    """Note a play.

    A busy database is tried again a little later; a track that does not exist never will be there, so its event
    ends among the dead letters.
    """
    await db().add_play(event["event"], event["user"], event["track"])
