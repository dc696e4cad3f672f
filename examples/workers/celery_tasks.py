"""Celery tasks: `celery -A examples.workers.celery_tasks worker`; beside it `python -m examples.workers.celery_tasks`.

Broker, results and the cache's second level are the Redis that `CACHE_L2_URL` names.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from celery import Celery
from celery.signals import worker_process_shutdown

import smw
from examples.workers.functions import playlist
from smw import security

REDIS = os.environ.get("CACHE_L2_URL", "redis://127.0.0.1:6379/0")
smw.configure(service="playlists")  # opened once, before Celery forks its worker processes
app = Celery("examples", broker=REDIS, backend=REDIS)
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


@worker_process_shutdown.connect
def flush(**_about: Any) -> None:
    """Flush and close: Celery ends its worker processes without running what Python runs at exit."""
    smw.shutdown()


@app.task(name="examples.read")
def read(number: int) -> dict[str, Any]:
    """Read a playlist in a worker."""
    with security.acting("nightly", purpose="streaming"):
        return playlist(f"p{number}", "u1")


def main(playlists: int = 3) -> None:
    """Send tasks, two for each playlist, and print what came of them."""
    sent = [read.delay(number) for number in range(playlists) for _ in range(2)]
    for task in sent:
        print(json.dumps(task.get(timeout=60)), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
