"""The parts of the demo that need no web: what production refuses, and the nightly job over the plays."""

from __future__ import annotations

import json
from pathlib import Path

import smw
from examples.music_agent import domain, store
from examples.music_agent.batch import analyse as job
from examples.music_agent.stack import CATALOGUE
from smw import errors, pipeline, security


async def enforce(trail: Path) -> tuple[str, bool]:
    """Export a user's data under the production profile, first without a purpose and then with one.

    Args:
        trail: Folder for the audit log.

    Returns:
        What the refusal said ("" without one), and whether the second call was allowed.
    """
    settings = {"catalogue": CATALOGUE, "trail_dir": trail}
    store.use(store.Database())
    async with smw.Runtime("production", service="music-agent", environ={}, security=settings, monitor={"logs": "off"}):
        refused = ""
        with security.acting("u0001"):
            try:
                await domain.export_user_data("u0001")
            except errors.Denied as denied:
                refused = f"{denied.control} ({denied.clause})"
        with security.acting("u0001", purpose="portability"):
            exported = await domain.export_user_data("u0001")
    return refused, exported is not None


def analyse(home: Path) -> tuple[int, int]:
    """Run the nightly job over the plays that the service noted, from a JSON-lines file to a CSV file.

    Returns:
        How many plays went in, and how many rows came out.
    """
    plays = store.Database(home / "service" / "music.sqlite").plays()
    source, target = home / "plays.jsonl", home / "analytics.csv"
    source.write_text("".join(json.dumps(play) + "\n" for play in plays), encoding="utf-8")
    with smw.Runtime("development", environ={}):
        pipeline.run("playlist_analytics", source=source, to=target)
    assert job is not None  # imported for its registration
    rows = target.read_text(encoding="utf-8").splitlines()
    return len(plays), len(rows) - 1
