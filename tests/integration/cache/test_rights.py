"""What a restricted user of Redis needs, and what comes of less."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from pathlib import Path

import pytest
import redis

from smw.cache import Cache, key_for
from smw.cache.sight.browsing import figures, stored
from smw.cache.stores import redis_scripts
from smw.cache.stores.redis_hot import _HOTTEST, _SIZES, _TELL
from smw.doctor.rights import COMMANDS, rights, rule

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "redis.md"
CHANNELS = re.compile(r"&\S+")


@pytest.fixture
def user(redis_server):
    """Make a user with a rule, and return its URL; its namespace is its name."""
    name = f"u{uuid.uuid4().hex}"
    with redis.Redis(port=redis_server.port) as client:

        def make(told):
            client.execute_command("ACL", "SETUSER", name, "reset", "on", ">pw", *told.split())
            return f"redis://{name}:pw@127.0.0.1:{redis_server.port}/0"

        make.prefix, make.name = f"smw:{name}:", name
        yield make
        client.execute_command("ACL", "DELUSER", name)


async def everything(cache, other):
    """Do all that a cache does with a Redis: loads, drops, flights, writes, looks, and a start that is warm."""
    ran = []

    @cache.cached(60, tags=["book:{number}"], flight="fleet")
    def book(number: int) -> str:
        ran.append(number)
        return f"book {number}"

    @cache.cached(60, flight="fleet")
    async def author(number: int) -> str:
        ran.append(number)
        return f"author {number}"

    @cache.writes(to=book)
    def rename(number: int) -> str:
        return f"new {number}"

    for _ in range(2):
        assert book(1) == "book 1"
        assert await author(1) == "author 1"
    cache.drop_sync(tags=["book:1"])
    await cache.drop(keys=[key_for(author, 1)])
    assert (book(1), await author(1)) == ("book 1", "author 1")
    assert ran == [1, 1, 1, 1]
    rename(1)
    await asyncio.gather(*[author(number) for number in range(5)])
    store = cache.engine.remote.servers[0].store
    await store.tell_hot(f"{cache.prefix}hot", [("member", 1.0)], 10, mode="async", timeout_s=5)
    assert await store.hottest(f"{cache.prefix}hot", 10, 100, mode="async", timeout_s=5)
    await other.warm_fleet()
    assert {row.state for row in figures(cache)} == {"answers"}
    assert list(stored(cache, 100))
    cache.clear_sync()


@pytest.mark.service("redis")
@pytest.mark.parametrize("channels", [True, False])
async def test_the_rule_of_the_page_is_enough(user, channels, caplog):
    """With exactly what the page lists all works, and nothing is logged; without channels too, but later."""
    told = rule(user.prefix)
    url = user(told if channels else CHANNELS.sub("", told))
    caplog.set_level(logging.WARNING, "smw")
    here, there = (Cache(l2_url=url, namespace=user.name, budget_ms=5000, l1_trust_ms=30_000) for _ in range(2))
    try:
        await everything(here, there)
        assert here.backends() == {"redis": True}
        assert [record.getMessage() for record in caplog.records] == []
        if channels:
            await hears(here, there)
    finally:
        here.close()
        there.close()


async def hears(here, there):
    """Wait until what is dropped in one cache is gone from the memory of the other, long before its trust ends."""

    def title(number: int) -> str:
        return f"title {number}"

    reads, drops = there.cached(60, tags=["t"])(title), here
    until = time.monotonic() + 20
    while time.monotonic() < until:
        reads(1)
        drops.drop_sync(tags=["t"])
        await asyncio.sleep(0.1)
        if not there.engine.memory.held(key_for(reads, 1)):
            return
    pytest.fail("it was never heard")


@pytest.mark.service("redis")
@pytest.mark.parametrize(
    ("without", "verdict", "lacks", "says"),
    [
        ("", "ok", "", "may do what the cache does"),
        ("+evalsha +eval ", "fail", "+eval +evalsha", "nothing is cached"),
        ("+time ", "fail", "+time", "nothing is cached"),
        ("+hset ", "fail", "+hset", "nothing is cached"),
        ("+info ", "warn", "+info", "fail-overs"),
        ("+dbsize ", "warn", "+dbsize", "stats"),
        ("+zadd ", "warn", "+zadd", "starts warm"),
        ("+subscribe ", "warn", "+subscribe", "later"),
        ("channels", "warn", "&{prefix}b*", "later"),
        ("keys", "fail", "~{prefix}*", "nothing is cached"),
    ],
)
def test_the_doctor_names_what_a_user_lacks(user, without, verdict, lacks, says):
    """Each right that is missing is named with what comes of it, and the line that mends it."""
    told = rule(user.prefix) + " "
    if without in ("channels", "keys"):
        told = re.sub(rf"{'&' if without == 'channels' else '~'}\S+", "", told)
    for word in without.split():
        told = told.replace(f"{word} ", "") if word.startswith("+") else told
    found = rights(user(told), "cache.l2.rights", "CACHE_L2_URL", user.prefix)
    assert (found.verdict, says in found.seen) == (verdict, True), found
    wanted = lacks.format(prefix=user.prefix).split()
    assert set(found.fix.split()[3:]) == set(wanted)


@pytest.mark.service("redis")
def test_the_trials_leave_nothing(user, redis_server):
    """Whatever is tried, no key of the namespace is there afterwards."""
    rights(user(rule(user.prefix)), "cache.l2.rights", "CACHE_L2_URL", user.prefix)
    with redis.Redis(port=redis_server.port) as client:
        assert client.keys(f"{user.prefix}*") == []


@pytest.fixture
def limited(redis_cluster):
    """Return what gives each node of a cluster a user of a rule, and with it a URL."""

    def made(told: str) -> str:
        for node in redis_cluster.nodes:
            with redis.Redis(port=node.port) as admin:
                admin.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pw", *told.split())
        return redis_cluster.url.replace("://", "://limited:pw@")

    yield made
    for node in redis_cluster.nodes:
        with redis.Redis(port=node.port) as admin:
            admin.execute_command("ACL", "DELUSER", "limited")


@pytest.mark.service("redis")
def test_each_node_of_a_cluster_is_asked_about_a_key_that_it_has(limited, redis_cluster):
    """What a script alone shows is seen, at whichever node it is missing, and that node is named."""
    told = rule("smw:shop:", is_cluster=True)
    lame = told.replace("+hset ", "")
    assert rights(limited(told), "cache.l2.rights", "CACHE_L2_URL", "smw:shop:").verdict == "ok"
    found = rights(limited(lame), "cache.l2.rights", "CACHE_L2_URL", "smw:shop:")
    assert (found.verdict, found.fix) == ("fail", "ACL SETUSER limited +hset")
    url = limited(told)
    for node in redis_cluster.nodes:
        with redis.Redis(port=node.port) as admin:
            if admin.role()[0] != b"master":
                continue
            admin.execute_command("ACL", "SETUSER", "limited", "-hset")
            found = rights(url, "cache.l2.rights", "CACHE_L2_URL", "smw:shop:")
            assert f"lacks +hset at 127.0.0.1:{node.port}: nothing is cached" in found.seen
            admin.execute_command("ACL", "SETUSER", "limited", "+hset")
    found = rights(limited(told.replace(" +cluster", "")), "cache.l2.rights", "CACHE_L2_URL", "smw:shop:")
    assert found.verdict == "ok"


@pytest.mark.service("redis")
def test_the_nodes_of_a_cluster_are_asked_like_one_server(redis_cluster):
    """A user of a cluster has a rule of its own for keys, and each command is let through before a node is found."""
    told = rule("smw:shop:", is_cluster=True)
    nodes = [redis.Redis(port=node.port) for node in redis_cluster.nodes]
    for node in nodes:
        node.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pw", *told.split())
    try:
        url = redis_cluster.url.replace("://", "://limited:pw@")
        assert rights(url, "cache.l2.rights", "CACHE_L2_URL", "smw:shop:").verdict == "ok"
        cache = Cache(l2_url=url, namespace="shop", budget_ms=5000, l1_size=0)
        ran = []

        @cache.cached(60, tags=["all"])
        def book(number: int) -> int:
            ran.append(number)
            return number

        for _ in range(2):
            assert [book(number) for number in range(20)] == list(range(20))
        cache.drop_sync(tags=["all"])
        book(1)
        assert ran == [*range(20), 1]
        cache.close()
    finally:
        for node in nodes:
            node.execute_command("ACL", "DELUSER", "limited")
            node.close()


def test_the_page_has_the_whole_rule_and_the_rule_all_that_scripts_call():
    """Nobody has to find out by trying; a new command in a script is missing here before a user misses it."""
    assert rule("smw:shop:") in PAGE.read_text()
    texts = [_TELL, _HOTTEST, _SIZES, *[getattr(redis_scripts, name) for name in redis_scripts.__all__]]
    called = {name.lower() for text in texts for name in re.findall(r"redis\.p?call\('([A-Z]+)'", text)}
    assert called <= set(COMMANDS)
