"""A script: `python -m examples.workers.script [PLAYLISTS]`. TERM ends it cleanly, in the middle of the work."""

from __future__ import annotations

import asyncio
import json
import sys

import smw
from examples.workers.functions import playlist, plays, rename
from smw import pipeline, security


def main(playlists: int = 3) -> None:
    """Read each playlist twice and rename it, then run a stream's handler and a batch job over lists."""
    smw.install_signal_handlers()  # without it Python dies by TERM on the spot, and runs nothing at exit
    with security.acting("nightly", purpose="streaming"):
        for number in range(playlists):
            name = f"p{number}"
            first, again = playlist(name, "u1"), playlist(name, "u1")
            rename(name, "u1", "Morning")
            print(json.dumps([first, again, playlist(name, "u1")]), flush=True)
    asyncio.run(pipeline.run_over("plays", [{"track": "So What"}, {"track": "So What"}]))
    made = pipeline.run("minutes", [{"track": "So What", "seconds": 545}])
    print(json.dumps({"plays": plays, "minutes": made.rows}), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
