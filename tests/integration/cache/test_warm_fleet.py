"""A process starts with what another is asked for most: over a real Redis, in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import redis

from smw.cache.stores.redis import RedisStore
from smw.cache.stores.redis_hot import HALF_LIFE_S
from smw.testing import isolated
from tests.integration.cache import hot_shop
from tests.integration.web.processes import eventually, served
from tests.services import asking

ROOT = Path(__file__).parents[3]
BEGIN = "from tests.integration.cache import hot_shop; hot_shop.main()"
PATIENT = {"CACHE_BUDGET_MS": "5000", "CACHE_WARM_TIMEOUT_S": "20"}
"""Settings for which no machine is too slow."""
pytestmark = pytest.mark.service("redis")


@pytest.fixture
def hot(redis_server, monkeypatch):
    """Run a service for a while and end it; return the settings that its next processes have."""
    settings = {"l2_url": redis_server.url, "namespace": f"t{uuid.uuid4().hex}", "budget_ms": 5000}
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    with isolated(cache=settings) as runtime:
        hot_shop.calls()
        hot_shop.calls()
        runtime.close()  # it tells what it was asked for
    hot_shop.LOADS.clear()
    return settings


def test_the_first_calls_of_a_process_and_of_its_children_are_hits_in_memory(hot):
    """No load, no question to Redis; what was dropped meanwhile is loaded, and a forked worker begins as warm."""
    with isolated(cache=hot) as runtime:
        runtime.cache.drop_sync(tags=["sku:sku7"])
    command = [sys.executable, "-c", BEGIN, hot["l2_url"], hot["namespace"]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    parent, child = map(json.loads, done.stdout.splitlines())
    assert parent | {"pid": 0} == {"pid": 0, "warmed": [99, 100], "loads": ["sku7"], "l1": [99, 100], "l2": [0, 0]}
    assert child["loads"] == []
    assert [late - early for late, early in zip(child["warmed"], parent["warmed"], strict=True)] == [100, 100]
    assert [late - early for late, early in zip(child["l1"], parent["l1"], strict=True)] == [100, 100]


def test_every_worker_of_a_preloaded_server_starts_warm(hot, tmp_path, monkeypatch):
    """Each worker fills its own memory before it answers its first request."""
    monkeypatch.setitem(os.environ, "CACHE_L2_URL", hot["l2_url"])
    monkeypatch.setitem(os.environ, "CACHE_NAMESPACE", hot["namespace"])
    app = "tests.integration.cache.hot_shop:app"
    command = ["gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "2", "--preload", app]
    with served(command, tmp_path) as server:
        seen = {}

        def both() -> bool:
            told = asking.get(f"{server.url}/").json()
            seen.setdefault(told["pid"], told)
            return len(seen) == 2

        eventually(both)
    for told in seen.values():
        assert (told["warmed"], told["loads"], told["l2"]) == ([100, 100], [], [0, 0])


async def test_many_processes_are_added_up_and_what_is_old_fades(redis_server):
    """The list is ranked by what all ask for of late, and lives as long as somebody tells something."""
    store, name = RedisStore(redis_server.url, timeout_s=2.0), f"t{uuid.uuid4().hex}"
    how = {"mode": "async", "timeout_s": 2.0}
    for _ in range(3):
        await store.tell_hot(name, [("old", 4.0)], 10, **how)
    now, _ = await store._run("async", 2.0, "TIME")
    ((_, score),) = await store.hottest(name, 1, 10, **how)
    assert 2 ** (score - int(now) / HALF_LIFE_S) == pytest.approx(12, rel=0.1)
    await store._run("async", 2.0, "ZADD", name, score - 10, "old")  # ten half-lives later
    await store.tell_hot(name, [("new", 1.0)], 10, **how)
    assert [member for member, _ in await store.hottest(name, 2, 10, **how)] == ["new", "old"]
    assert 0 < await store._run("async", 2.0, "TTL", name) <= 7 * 86_400
    await store.aclose()


async def test_what_somebody_else_put_in_its_place_gives_way(redis_server):
    """A list that was replaced by something of another type begins anew, so that telling does not fail for ever."""
    store, name = RedisStore(redis_server.url, timeout_s=2.0), f"t{uuid.uuid4().hex}"
    how = {"mode": "async", "timeout_s": 2.0}
    await store._run("async", 2.0, "SET", name, "foreign")
    await store.tell_hot(name, [("member", 1.0)], 10, **how)
    assert [member for member, _ in await store.hottest(name, 2, 10, **how)] == ["member"]
    await store.aclose()


def test_over_a_cluster_each_part_has_its_share(redis_cluster):
    """Every shard keeps a list of its own keys, and a process that starts reads them all."""
    settings = {"l2_url": redis_cluster.url, "namespace": f"t{uuid.uuid4().hex}", "budget_ms": 5000}
    with isolated(cache=settings) as runtime:
        hot_shop.calls()
        hot_shop.calls()
        runtime.close()
    hot_shop.LOADS.clear()
    with isolated(cache=settings | {"warm_timeout_s": 20}) as runtime:
        done = asyncio.run(runtime.cache.warm_fleet())
        assert (done.kept, done.skipped, done.ended) == (200, 0, "")
        told = hot_shop.told()
        assert (told["loads"], told["l1"], told["l2"]) == ([], [100, 100], [0, 0])


def test_a_user_who_may_not_use_the_list_keeps_the_rest_of_the_cache(hot, redis_server):
    """Commands that only the list needs may be forbidden: the process starts cold, and Redis serves it on."""
    client = redis.Redis.from_url(redis_server.url)
    allowed = ["ACL", "SETUSER", "plain", "on", ">secret", "~*", "&*", "+@all", "-@sortedset", "-strlen"]
    client.execute_command(*allowed)
    try:
        url = hot["l2_url"].replace("redis://", "redis://plain:secret@")
        with isolated(cache=hot | {"l2_url": url}) as runtime:
            assert runtime.cache.warm_fleet_sync().kept == 0
            hot_shop.calls()
            told = hot_shop.told()
            assert (told["loads"], told["l2"]) == ([], [100, 100])
            assert all(runtime.cache.backends().values())
    finally:
        client.execute_command("ACL", "DELUSER", "plain")
        client.close()
