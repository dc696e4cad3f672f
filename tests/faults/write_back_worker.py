"""One process that acknowledges writes: ``python -m tests.faults.write_back_worker FOLDER sync|async|drain``.

It writes its clock to keys of a source, and prints ``key began ended`` for each write once that is acknowledged, until
a line comes in or it is killed. With ``drain`` it writes nothing and ends when nothing waits any more.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
import threading
import time
from pathlib import Path

from smw.cache import Cache

KEYS = 5
folder, mode = Path(sys.argv[1]), sys.argv[2]
cache = Cache(state_dir=folder / "state", namespace="killed")
source = sqlite3.connect(folder / "source.db", timeout=30, isolation_level=None, check_same_thread=False)
source.execute("CREATE TABLE IF NOT EXISTS found (key INTEGER PRIMARY KEY, began INTEGER)")


@cache.cached(60, key=lambda key: key)
def get(key: int) -> int:
    return 0


def value(_result: object, arguments: dict) -> int:
    return arguments["began"]


def done(key: int, began: int) -> None:
    source.execute("INSERT OR REPLACE INTO found VALUES (?, ?)", (key, began))


@cache.writes(get, strategy="write_back", value=value)
def put(key: int, began: int) -> None:
    time.sleep(0.002)
    done(key, began)


@cache.writes(get, strategy="write_back", value=value)
async def put_awaiting(key: int, began: int) -> None:
    await asyncio.sleep(0.002)
    done(key, began)


def say(key: int, began: int) -> None:
    os.write(1, b"%d %d %d\n" % (key, began, time.monotonic_ns()))


async def awaiting(told: threading.Event) -> None:
    while not told.is_set():
        key, began = random.randrange(KEYS), time.monotonic_ns()
        await put_awaiting(key, began)
        say(key, began)
        await asyncio.sleep(0)


async def until_empty() -> None:
    get(-1)
    while cache.behind.open().counts()[0]:
        await put_awaiting(-1, 0)  # a loop that calls does what coroutines have left
        await asyncio.sleep(0.05)


def main() -> None:
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
    if mode == "drain":
        asyncio.run(until_empty())
    elif mode == "async":
        asyncio.run(awaiting(told))
    while mode == "sync" and not told.is_set():
        key, began = random.randrange(KEYS), time.monotonic_ns()
        put(key, began)
        say(key, began)
    cache.close()


if __name__ == "__main__":
    main()
