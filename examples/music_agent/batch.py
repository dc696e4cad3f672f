"""A nightly job: plays in, one row for analysts out, in bounded memory however long the file is."""

from __future__ import annotations

from typing import Any

from examples.music_agent import store
from smw import pipeline


@pipeline.batch_transform("playlist_analytics")
def analyse(plays: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add title and style to each play, and leave out who played it."""
    rows = []
    for play in plays:
        title = store.title_of(int(play["track"]))
        rows.append({"track": play["track"], "title": title, "style": title.partition(" ")[0]})
    return rows
