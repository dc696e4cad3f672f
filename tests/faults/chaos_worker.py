"""One process of the chaos test: reads and writes a versioned source through the cache, and notes what it saw when.

``python -m tests.faults.chaos_worker REDIS_URL MEMCACHED SOURCE MODE SEED``: works until a line comes in, reads every
key once more, and prints its history as JSON. Times are of the clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import mmap
import random
import sys
import threading
import time
from pathlib import Path

from smw import cache as cache_module
from smw.cache import Cache

KEYS = 6
THREADS = 3
WRITES = 0.12
PUTS = 0.4


class Source:
    """A version for each key, shared by all processes."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("r+b")  # noqa: SIM115 - as long as the process
        self._versions = memoryview(mmap.mmap(self._file.fileno(), KEYS * 8)).cast("Q")
        self._lock = threading.Lock()

    def read(self, key: int) -> int:
        return self._versions[key]

    def write(self, key: int) -> int:
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                self._versions[key] += 1
                return self._versions[key]
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


class Worker:
    """What one process does, and its history."""

    def __init__(self, url: str, memcached: str, path: str, mode: str, seed: int) -> None:
        self.mode = mode
        self.random = random.Random(seed)
        self.source = Source(path)
        self.cache = Cache(namespace="chaos", l2_host=url, l3_servers=[memcached], l1_size=100)
        self.servers = self.cache._engine.remote.servers
        self.reads: list[tuple[int, float, int]] = []
        self.drops: list[tuple[int, int, float]] = []
        self.even: list[float] = []
        self.deaf: list[float] = []
        self.loads = 0
        self.failures = 0
        self.stop = threading.Event()

        def load(key: int) -> int:
            version = self.source.read(key)
            self.loads += 1
            time.sleep(self.random.random() * 0.02)
            return version

        async def load_awaited(key: int) -> int:
            version = self.source.read(key)
            self.loads += 1
            await asyncio.sleep(self.random.random() * 0.02)
            return version

        decorate = self.cache.cached(60, tags=["n:{key}"], key=lambda key: key)
        # One name, so that both kinds share their entries on the servers.
        load.__qualname__ = load_awaited.__qualname__ = "load"
        self.load = decorate(load if mode == "sync" else load_awaited)

        def put(key: int) -> int:
            version = self.source.write(key)
            time.sleep(self.random.random() * 0.005)
            return version

        async def put_awaited(key: int) -> int:
            version = self.source.write(key)
            await asyncio.sleep(self.random.random() * 0.005)
            return version

        self.put = self.cache.writes(self.load)(put if mode == "sync" else put_awaited)

    def note(self) -> None:
        """Note whether everything is paid, and whether the authority has just not answered."""
        now, authority = time.monotonic(), [level for level in self.servers if level.name == self.servers[0].name]
        if not any(level.debt for level in self.servers):
            self.even.append(now)
        failures = sum(sum(level.errors.values()) for level in authority)
        if failures != self.failures or any(level.breaker.is_open for level in authority):
            self.failures = failures
            self.deaf.append(now)

    def scope(self, key: int) -> dict[str, list[str]]:
        return {"tags": [f"n:{key}"]} if key % 2 else {"keys": [cache_module.key_for(self.load, key)]}

    def turn(self) -> tuple[int, bool]:
        return self.random.randrange(KEYS), self.random.random() < WRITES

    def work(self) -> None:
        while not self.stop.is_set():
            key, writes = self.turn()
            if writes:
                if self.random.random() < PUTS:
                    version = self.put(key)
                else:
                    version = self.source.write(key)
                    self.cache.drop_sync(**self.scope(key))
                self.drops.append((key, version, time.monotonic()))
            began = time.monotonic()
            self.reads.append((key, began, self.load(key)))
            self.note()
            time.sleep(self.random.random() * 0.01)

    async def work_awaited(self) -> None:
        while not self.stop.is_set():
            key, writes = self.turn()
            if writes:
                if self.random.random() < PUTS:
                    version = await self.put(key)
                else:
                    version = self.source.write(key)
                    await self.cache.drop(**self.scope(key))
                self.drops.append((key, version, time.monotonic()))
            began = time.monotonic()
            self.reads.append((key, began, await self.load(key)))
            self.note()
            await asyncio.sleep(self.random.random() * 0.01)

    def history(self, last: list[int]) -> dict[str, object]:
        names = ("reads", "drops", "even", "deaf", "loads")
        return {"last": last, **{name: getattr(self, name) for name in names}}


def run_blocking(worker: Worker) -> list[int]:
    threads = [threading.Thread(target=worker.work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    worker.stop.set()
    for thread in threads:
        thread.join()
    sys.stdin.readline()
    return [worker.load(key) for key in range(KEYS)]


async def run_awaiting(worker: Worker) -> list[int]:
    tasks = [asyncio.ensure_future(worker.work_awaited()) for _ in range(THREADS)]
    await asyncio.to_thread(sys.stdin.readline)
    worker.stop.set()
    await asyncio.gather(*tasks)
    await asyncio.to_thread(sys.stdin.readline)
    return [await worker.load(key) for key in range(KEYS)]


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    made = Worker(*sys.argv[1:5], seed=int(sys.argv[5]))
    print("ready", flush=True)
    seen = run_blocking(made) if made.mode == "sync" else asyncio.run(run_awaiting(made))
    print(json.dumps(made.history(seen)), flush=True)
    with contextlib.suppress(BrokenPipeError):
        made.cache.close()
