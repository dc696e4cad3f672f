"""A process pool: `python -m examples.workers.processes fork|spawn [PLAYLISTS]`. Each process opens what it needs."""

from __future__ import annotations

import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import smw
from examples.workers.functions import playlist
from smw import security


def read(number: int) -> dict[str, Any]:
    """Read a playlist in some process of the pool."""
    with security.acting("nightly", purpose="streaming"):
        return playlist(f"p{number}", "u1")


def main(method: str, playlists: int = 3) -> None:
    """Read each playlist here and four times in the pool, which shares the cache where `CACHE_L2_URL` names a Redis."""
    smw.install_signal_handlers()
    pool = ProcessPoolExecutor(2, multiprocessing.get_context(method))  # its processes flush and close when they end
    try:
        for number in range(playlists):
            print(json.dumps(read(number)), flush=True)
            for done in as_completed([pool.submit(read, number) for _ in range(4)]):
                print(json.dumps(done.result()), flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
