"""Two event loops, one after the other: `python -m examples.workers.loops [PLAYLISTS]`. Nothing belongs to a loop."""

from __future__ import annotations

import asyncio
import json
import sys

import smw
from examples.workers.functions import awaited_playlist, plays
from smw import cache, pipeline, security


async def read(number: int) -> None:
    """Ask for one playlist from twenty tasks at once: one of them computes it."""
    with security.acting("nightly", purpose="streaming"):
        found = await asyncio.gather(*(awaited_playlist(f"p{number}", "u1") for _ in range(20)))
    print(json.dumps(found), flush=True)


async def work(playlists: int) -> None:
    """Read playlists, drop the last one from the cache, and handle two events."""
    for number in range(playlists):
        await read(number)
    await cache.drop(tags=[cache.tag("playlist:{playlist_id}", playlist_id=f"p{playlists - 1}")])
    await pipeline.run_over("plays", [{"track": "So What"}, {"track": "So What"}])
    print(json.dumps({"plays": plays}), flush=True)


def main(playlists: int = 3) -> None:
    """Do it in two loops: the second finds in the cache what the first has left there."""
    smw.install_signal_handlers()  # TERM cancels the loop's tasks and leaves their blocks, as `sys.exit` would
    asyncio.run(work(playlists))
    asyncio.run(work(playlists))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
