"""A thread pool: `python -m examples.workers.threads [PLAYLISTS]`. Threads share cache, metrics and audit log."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import smw
from examples.workers.functions import playlist
from smw import security


def read(number: int) -> dict[str, Any]:
    """Read a playlist: who acts, and for what, is said in the thread that calls."""
    with security.acting("nightly", purpose="streaming"):
        return playlist(f"p{number}", "u1")


def main(playlists: int = 3) -> None:
    """Ask for each playlist from eight threads at once: one of them computes it, the others wait for it."""
    smw.install_signal_handlers()
    pool = ThreadPoolExecutor(8)
    try:
        for done in as_completed([pool.submit(read, number) for number in range(playlists) for _ in range(8)]):
            print(json.dumps(done.result()), flush=True)
    finally:
        pool.shutdown(cancel_futures=True)  # at TERM finish what runs, and leave what waits


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
