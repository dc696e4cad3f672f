"""Several processes read, write and invalidate while Redis and memcached are killed, emptied and stopped.

``SMW_CHAOS_S`` and ``SMW_CHAOS_SEED`` make it longer and another one.
"""

from __future__ import annotations

import bisect
import contextlib
import faulthandler
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.chaos_worker import KEYS

TRUST_S = 1.0
SLACK_S = 0.1
"""Between a worker's clock and its note of it a busy machine may hold it up."""
MODES = ("sync", "async", "sync", "async")


def broken(histories: list[dict]) -> list[str]:
    """Return what was promised and not kept, as far as these histories of all processes show it."""
    settled = [settled_drops(history) for history in histories]
    found = []
    for process, history in enumerate(histories):
        own = sorted((at, key, version) for key, version, at in history["drops"])
        everybody = sorted((at, key, version) for drops in settled for at, key, version in drops)
        deaf = sorted(history["deaf"])
        here, elsewhere = Floor(own, 0.0), Floor(everybody, TRUST_S + SLACK_S)
        for key, began, version in sorted(history["reads"], key=lambda read: read[1]):
            floor = here.at(began).get(key, 0)
            if version < floor:
                found.append(f"here: process {process} read {key} at version {version} after it dropped {floor}")
            floor = elsewhere.at(began).get(key, 0)
            index = bisect.bisect(deaf, began + SLACK_S)
            answered = index == 0 or began - deaf[index - 1] > TRUST_S + SLACK_S
            if version < floor and answered:
                found.append(f"elsewhere: process {process} read {key} at version {version}, dropped was {floor}")
    return found


def settled_drops(history: dict) -> list[tuple[float, int, int]]:
    """Return (when no server was owed it any more, key, version) of each drop of one process."""
    even = history["even"]
    found = []
    for key, version, at in history["drops"]:
        index = bisect.bisect_left(even, at)
        if index < len(even):
            found.append((even[index], key, version))
    return found


class Floor:
    """The newest version of each key that was dropped some time before; asked in order of time."""

    def __init__(self, drops: list[tuple[float, int, int]], after_s: float) -> None:
        self._drops, self._after_s = drops, after_s
        self._next = 0
        self._versions: dict[int, int] = {}

    def at(self, now: float) -> dict[int, int]:
        while self._next < len(self._drops) and self._drops[self._next][0] + self._after_s < now:
            _, key, version = self._drops[self._next]
            self._versions[key] = max(version, self._versions.get(key, 0))
            self._next += 1
        return self._versions


def history(reads=(), drops=(), even=(), deaf=()):
    return {"reads": list(reads), "drops": list(drops), "even": list(even), "deaf": list(deaf)}


@pytest.mark.parametrize(
    ("histories", "count"),
    [
        ([history([(1, 5.0, 3)], [(1, 4, 4.9)], [4.9])], 1),
        ([history([(1, 4.8, 3)], [(1, 4, 4.9)], [4.9])], 0),
        ([history([(2, 5.0, 3)], [(1, 4, 4.9)], [4.9])], 0),
        ([history((), [(1, 4, 4.9)], [4.9]), history([(1, 5.8, 3)])], 0),
        ([history((), [(1, 4, 4.9)], [4.9]), history([(1, 6.1, 3)])], 1),
        ([history((), [(1, 4, 4.9)], [5.9]), history([(1, 6.1, 3)])], 0),
        ([history((), [(1, 4, 4.9)], []), history([(1, 60.0, 3)])], 0),
        ([history((), [(1, 4, 4.9)], [4.9]), history([(1, 6.1, 3)], deaf=[5.5])], 0),
        ([history((), [(1, 4, 4.9)], [4.9]), history([(1, 9.0, 3)], deaf=[5.5])], 1),
    ],
)
def test_the_checker_knows_stale_from_fresh(histories, count):
    """Reads older than promised are found, and those within the promise are not."""
    assert len(broken(histories)) == count


def hurt(chance: random.Random, redis, memcached) -> None:
    """Do one bad thing to a server, and end it."""
    what = chance.choice(("kill", "pause", "pause", "flush", "forget", "unheard"))
    server = chance.choice((redis, redis, memcached))
    if what == "kill":
        server.kill()
        time.sleep(chance.random() * 0.8)
        server.start()
    elif what == "pause":
        server.pause()
        time.sleep(chance.random() * 1.2)
        server.resume()
    elif what == "flush":
        server.flush()
    elif what == "unheard":
        import redis as client_module

        with contextlib.suppress(client_module.RedisError), client_module.Redis.from_url(redis.url) as client:
            for _ in range(3):
                client.client_kill_filter(_type="pubsub")
                time.sleep(0.05)
    else:
        import redis as client_module

        with contextlib.suppress(client_module.RedisError), client_module.Redis.from_url(redis.url) as client:
            for key in client.scan_iter("smw:chaos:*"):
                if chance.random() < 0.5:
                    client.delete(key)


@pytest.mark.timed
@pytest.mark.service("redis")
@pytest.mark.service("memcached")
def test_promises_hold_while_servers_are_hurt(service_factory, tmp_path):
    """Here nothing old after a drop, elsewhere nothing beyond the trust, and in the end everybody sees the newest."""
    faulthandler.cancel_dump_traceback_later()  # it may be asked to take longer than a test may
    seed = int(os.environ.get("SMW_CHAOS_SEED", str(random.randrange(10**6))))
    chance, seconds = random.Random(seed), float(os.environ.get("SMW_CHAOS_S", "10"))
    redis, memcached = service_factory("redis"), service_factory("memcached")
    source = tmp_path / "source"
    source.write_bytes(bytes(KEYS * 8))
    command = [sys.executable, "-m", "tests.faults.chaos_worker", redis.url, memcached.address, str(source)]
    workers = [
        subprocess.Popen(
            [*command, mode, str(seed + number)],
            cwd=Path.cwd(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number, mode in enumerate(MODES)
    ]
    try:
        assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * len(workers)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(chance.random() * 0.8)
            hurt(chance, redis, memcached)
        time.sleep(TRUST_S + 1.5)  # breakers close, debts are paid, and then the trust ends
        tell(workers)
        time.sleep(TRUST_S + 0.5)
        tell(workers)
        histories = [json.loads(worker.stdout.readline()) for worker in workers]
        assert [worker.wait(60) for worker in workers] == [0] * len(workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert broken(histories) == [], f"SMW_CHAOS_SEED={seed}"
    newest = list(memoryview(source.read_bytes()).cast("Q"))
    assert [history["last"] for history in histories] == [newest] * len(workers), f"SMW_CHAOS_SEED={seed}"
    reads, loads = (sum(map(count, histories)) for count in (lambda h: len(h["reads"]), lambda h: h["loads"]))
    print(f"seed {seed}: {reads} reads, {loads} loads, {sum(len(h['drops']) for h in histories)} drops")
    assert reads > 20 * seconds
    assert loads < reads
    assert all(history["drops"] and history["even"] for history in histories)


def tell(workers: list[subprocess.Popen[str]]) -> None:
    """Let every worker go on to its next step."""
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
