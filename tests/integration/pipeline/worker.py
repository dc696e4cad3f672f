"""A worker process for tests: serves one stream, writes what it handled into a Redis list, behaves as told."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import redis

from smw import pipeline

URL, STREAM, BEHAVIOUR = sys.argv[1:4]
own = pipeline.Pipeline(redis_url=URL, claim_idle_s=0.3)
store = redis.Redis.from_url(URL)


@own.stream_process(STREAM, retry=pipeline.Retry(times=2, first=0.01))
async def handle(event: int):
    if BEHAVIOUR == "crash" and event == 3:
        store.rpush(f"{STREAM}.crashes", event)
        os._exit(9)
    await asyncio.sleep(0.01)
    store.rpush(f"{STREAM}.done", event)


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own.stop)
    print("ready", flush=True)
    await own.serve(STREAM, until_empty=BEHAVIOUR == "crash")
    await own.aclose()
    print("left", flush=True)


asyncio.run(main())
