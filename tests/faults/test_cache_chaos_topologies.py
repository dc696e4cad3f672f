"""The chaos of `test_cache_chaos` under Sentinels and on a cluster: fail-overs, ordered and not; takes minutes.

``SMW_CHAOS_S`` says how many seconds of it, and runs it at all; ``SMW_CHAOS_SEED`` another one.
"""

from __future__ import annotations

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
import redis

from tests.faults.chaos_worker import KEYS
from tests.faults.test_cache_chaos import MODES, TRUST_S, broken, tell
from tests.services.topologies import MASTER, RedisCluster, SentinelRedis, ask, found_here

pytestmark = [
    pytest.mark.timed,
    pytest.mark.service("redis"),
    pytest.mark.service("memcached"),
    pytest.mark.skipif("SMW_CHAOS_S" not in os.environ, reason="SMW_CHAOS_S=60 takes minutes"),
]


def fail_over(servers) -> None:
    """Have a replica take over while its master lives."""
    with contextlib.suppress(redis.RedisError, OSError, StopIteration):
        if isinstance(servers, SentinelRedis):
            ask(servers.sentinels[0], "SENTINEL", "FAILOVER", MASTER)
            time.sleep(3.0)
        else:
            roles = {node: ask(node, "INFO", "replication")["role"] for node in servers.nodes}
            ask(next(node for node, role in roles.items() if role == "slave"), "CLUSTER", "FAILOVER")
            time.sleep(1.0)


def hurt(chance: random.Random, servers) -> None:
    """Do one bad thing to one of several servers, and end it."""
    server = chance.choice(servers.servers if isinstance(servers, SentinelRedis) else servers.nodes)
    what = chance.choice(("kill", "pause", "flush", "fail over"))
    if what == "kill":
        server.kill()
        time.sleep(chance.random() * 2.5)
        server.start()
    elif what == "pause":
        server.pause()
        time.sleep(chance.random() * 1.5)
        server.resume()
    elif what == "flush":
        with contextlib.suppress(redis.RedisError, OSError):
            ask(server, "FLUSHALL")
    else:
        fail_over(servers)


@pytest.mark.parametrize("make", [SentinelRedis, RedisCluster])
def test_promises_hold_through_fail_overs(make, pytestconfig, service_factory, tmp_path):
    """Here nothing old after a drop, elsewhere nothing beyond the trust, and in the end everybody sees the newest."""
    faulthandler.cancel_dump_traceback_later()  # it may be asked to take longer than a test may
    seed = int(os.environ.get("SMW_CHAOS_SEED", str(random.randrange(10**6))))
    chance, seconds = random.Random(seed), float(os.environ["SMW_CHAOS_S"])
    servers, memcached = make(found_here(pytestconfig)), service_factory("memcached")
    source = tmp_path / "source"
    source.write_bytes(bytes(KEYS * 8))
    command = [sys.executable, "-m", "tests.faults.chaos_worker", servers.url, memcached.address, str(source)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": Path.cwd()}
    workers = [subprocess.Popen([*command, mode, str(seed + n)], **pipes) for n, mode in enumerate(MODES)]
    try:
        assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * len(workers)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(chance.random() * 0.8)
            hurt(chance, servers)
        time.sleep(TRUST_S + 4.0)  # a master is found, breakers close, debts are paid, and then the trust ends
        tell(workers)
        time.sleep(TRUST_S + 0.5)
        tell(workers)
        histories = [json.loads(worker.stdout.readline()) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
        servers.close()
    assert broken(histories) == [], f"SMW_CHAOS_SEED={seed}"
    newest = list(memoryview(source.read_bytes()).cast("Q"))
    assert [history["last"] for history in histories] == [newest] * len(workers), f"SMW_CHAOS_SEED={seed}"
    assert all(history["drops"] and history["even"] for history in histories)
