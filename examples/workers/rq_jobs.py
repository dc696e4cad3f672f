"""RQ jobs: `rq worker -w examples.workers.rq_jobs.Worker`, and beside it `python -m examples.workers.rq_jobs`.

Queue and the cache's second level are the Redis that `CACHE_L2_URL` names; the worker takes it as `--url`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import rq
from redis import Redis

import smw
from examples.workers.functions import playlist
from smw import security

REDIS = os.environ.get("CACHE_L2_URL", "redis://127.0.0.1:6379/0")
smw.configure(service="playlists")  # opened once, before RQ forks a process for each job


class Worker(rq.Worker):
    """Flushes after each job: RQ runs a job in a process of its own, and ends that without what Python runs at exit."""

    def perform_job(self, *arguments: Any, **options: Any) -> bool:
        """Run the job, then flush and close before its process ends."""
        try:
            return super().perform_job(*arguments, **options)
        finally:
            smw.shutdown()


def read(number: int) -> dict[str, Any]:
    """Read a playlist in a worker."""
    with security.acting("nightly", purpose="streaming"):
        return playlist(f"p{number}", "u1")


def main(playlists: int = 3) -> None:
    """Enqueue jobs, two for each playlist, and print what came of them."""
    queue = rq.Queue(connection=Redis.from_url(REDIS, socket_timeout=90))  # longer than a result is waited for
    jobs = [queue.enqueue("examples.workers.rq_jobs.read", number) for number in range(playlists) for _ in range(2)]
    for job in jobs:
        result = job.latest_result(timeout=60)
        print(json.dumps(result and result.return_value), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
