"""Drops reach the memory of other processes by messages of a real Redis, and nothing old stays where those are lost."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import redis

from smw.cache import Cache
from tests.services.stopwatch import Stopwatch

pytestmark = [pytest.mark.service("redis"), pytest.mark.timed]
PROMISED_S = 1.0
SLACK_S = 0.3
LONG_MS = 60_000
"""A trust so long that only a message, or noticing that one is missing, can end it."""


class Origin:
    """A value that changes, in a file that several processes read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write(1)

    def read(self) -> int:
        return int(self.path.read_text())

    def write(self, version: int) -> None:
        self.path.with_suffix(".new").write_text(str(version))
        self.path.with_suffix(".new").replace(self.path)


class Node:
    """A cache as one process has it, reading the origin under one tag."""

    def __init__(self, url: str, namespace: str, origin: Origin, trust_ms: int = LONG_MS) -> None:
        self.cache = Cache(namespace=namespace, l2_host=url, l1_trust_ms=trust_ms)
        self.backplane = self.cache._engine.backplane
        self.loads = 0

        def read(_key: int) -> int:
            self.loads += 1
            return origin.read()

        read.__qualname__ = "read"
        self.read = self.cache.cached(300, tags=["n"], key=lambda key: key)(read)

    def ready(self) -> Node:
        """Return once memory answers by what is heard."""
        self.read(1)
        until(lambda: self.backplane.standing[1] > 0)
        time.sleep(0.01)
        self.backplane._drop_all()
        self.read(1)
        return self


def until(met, within_s: float = 5.0) -> float:
    """Wait until `met`; returns how long it took."""
    watch = Stopwatch()
    while not met():
        assert watch.took_s() < within_s, "did not happen in time"
        time.sleep(0.002)
    return watch.took_s()


@pytest.fixture
def origin(tmp_path):
    return Origin(tmp_path / "origin")


@pytest.fixture
def nodes(origin):
    """Make caches of one namespace, as so many processes would have them."""
    namespace, made = f"t{uuid.uuid4().hex}", []

    def make(url: str, count: int = 2, *, trust_ms: int = LONG_MS) -> list[Node]:
        new = [Node(url, namespace, origin, trust_ms) for _ in range(count)]
        made.extend(new)
        return [node.ready() for node in new]

    yield make
    for node in made:
        node.cache.close()


OTHER = """
import json, sys
from pathlib import Path
from tests.faults.test_cache_backplane import Node, Origin

class Reader(Origin):
    def __init__(self, path): self.path = Path(path)

node = Node(sys.argv[1], sys.argv[2], Reader(sys.argv[3])).ready()
print("ready", flush=True)
for line in sys.stdin:
    if line == "drop\\n":
        node.cache.drop_sync(tags=["n"])
    print(node.read(1), flush=True)
node.cache.close()
"""


def test_a_drop_in_another_process_is_seen_at_once(redis_server, origin):
    """What one process drops, the memory of another lets go of long before its trust would have ended, both ways."""
    namespace = f"t{uuid.uuid4().hex}"
    here = Node(redis_server.url, namespace, origin).ready()
    command = [sys.executable, "-c", OTHER, redis_server.url, namespace, str(origin.path)]
    other = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd())

    def tell(word: str) -> int:
        other.stdin.write(word + "\n")
        other.stdin.flush()
        return int(other.stdout.readline())

    try:
        assert other.stdout.readline() == "ready\n"
        here.read(1)
        origin.write(2)
        assert tell("drop") == 2
        until(lambda: here.read(1) == 2, PROMISED_S)
        tell("read")
        origin.write(3)
        here.cache.drop_sync(tags=["n"])
        until(lambda: tell("read") == 3, PROMISED_S)
    finally:
        other.communicate("")
        here.cache.close()
    assert other.returncode == 0


def test_memory_is_not_asked_for_entry_by_entry(nodes, redis_server):
    """While everything is heard, many entries outlive their trust without one question about them."""
    node = nodes(redis_server.url, 1, trust_ms=500)[0]
    for key in range(100):
        node.read(key)
    with redis.Redis.from_url(redis_server.url) as client:
        before, ends = client.info("commandstats")["cmdstat_mget"]["calls"], time.monotonic() + 1.2
        while time.monotonic() < ends:
            for key in range(100):
                node.read(key)
            time.sleep(0.02)
        assert client.info("commandstats")["cmdstat_mget"]["calls"] - before == 0
    assert node.loads < 110


def test_what_is_dropped_by_key_is_heard_too(nodes, redis_server, origin):
    """A drop by key reaches that key in other memories, and no other key."""
    from smw import cache as cache_module

    here, there = nodes(redis_server.url)
    there.read(2)
    loads = there.loads
    origin.write(2)
    here.cache.drop_sync(keys=[cache_module.key_for(here.read, 1)])
    until(lambda: there.read(1) == 2, PROMISED_S)
    assert there.read(2) == 1
    assert there.loads <= loads + 1


def test_a_forked_child_listens_for_itself(nodes, redis_server, origin):
    """The child of a process that listens hears drops on a connection of its own, and the parent goes on."""
    here, there = nodes(redis_server.url)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            there.read(1)
            until(lambda: there.backplane.standing[1] > 0)
            there.ready()
            os.write(writing, b"r")
            until(lambda: there.read(1) == 2)
            os.write(writing, b"h")
        os._exit(0)
    os.close(writing)
    assert os.read(reading, 1) == b"r"
    origin.write(2)
    here.cache.drop_sync(tags=["n"])
    until(lambda: there.read(1) == 2, PROMISED_S)
    watch = Stopwatch()
    assert os.read(reading, 1) == b"h"
    assert watch.took_s() < PROMISED_S + SLACK_S
    os.close(reading)
    os.waitpid(child, 0)


@pytest.mark.parametrize("how", ["killed", "deaf"])
def test_a_lost_message_empties_memory(nodes, service_factory, origin, how):
    """A drop that was told while the connection was gone is noticed by its number, within the promise."""
    server = service_factory("redis")
    here, there = nodes(server.url)
    gaps = there.backplane.gaps
    with redis.Redis.from_url(server.url) as client:
        for version in (2, 3, 4):
            if how == "killed":
                client.client_kill_filter(_type="pubsub")
            else:
                _deafen(client)
            origin.write(version)
            here.cache.drop_sync(tags=["n"])
            until(lambda version=version: there.read(1) == version, PROMISED_S + SLACK_S)
            until(lambda: there.backplane.standing[1] > time.monotonic() - 0.5)
            there.read(1)
    assert there.backplane.gaps > gaps


def _deafen(client) -> None:
    """Have the server close what listens by the bound of its output buffers, as it does with one that is slow."""
    client.config_set("client-output-buffer-limit", "pubsub 1 1 1")
    for _ in range(3):
        for channel in client.pubsub_channels():
            client.publish(channel, b"0 - " + b"x" * 20_000)
    client.config_set("client-output-buffer-limit", "pubsub 33554432 8388608 60")


def test_a_hanging_server_leaves_the_old_promise(nodes, service_factory, origin):
    """Memory serves on while Redis hangs, and once it answers again drops are seen within the promise."""
    server = service_factory("redis")
    here, there = nodes(server.url)
    server.pause()
    watch = Stopwatch()
    assert there.read(1) == 1
    assert watch.took_s() < 0.3
    origin.write(2)
    here.cache.drop_sync(tags=["n"])
    assert here.read(1) == 2
    server.resume()
    until(lambda: not here.cache._engine.remote.servers[0].debt)
    until(lambda: there.read(1) == 2, PROMISED_S + SLACK_S)


@pytest.mark.parametrize("seconds", [0.0, 0.6])
def test_a_restarted_server_is_listened_to_again(nodes, service_factory, origin, seconds):
    """After a crash and a restart without data, memory starts over and drops are heard as before."""
    server = service_factory("redis")
    here, there = nodes(server.url)
    server.kill()
    time.sleep(seconds)
    server.start()
    until(lambda: here.cache._listener.is_connected and there.cache._listener.is_connected)
    until(lambda: there.read(1) == 1 and there.backplane.standing[1] > time.monotonic() - 0.2)
    there.read(1)
    heard = there.backplane.messages
    origin.write(2)
    here.cache.drop_sync(tags=["n"])
    until(lambda: there.read(1) == 2, PROMISED_S + SLACK_S)
    until(lambda: there.backplane.messages > heard)


def test_another_database_of_the_server_disturbs_nothing(nodes, redis_server, origin):
    """The same namespace in two databases of one server is two, each with numbers of its own."""
    here, there = nodes(redis_server.url)
    other = nodes(redis_server.url.removesuffix("/0") + "/1", 1)[0]
    gaps = there.backplane.gaps
    for version in (2, 3):
        other.cache.drop_sync(tags=["n"])
        origin.write(version)
        here.cache.drop_sync(tags=["n"])
        until(lambda version=version: there.read(1) == version, PROMISED_S)
    assert there.backplane.gaps == gaps


def test_a_user_who_may_not_publish_keeps_the_old_promise(nodes, service_factory, origin):
    """Without the right to channels and to INFO drops still reach the server, which memory then asks itself."""
    server = service_factory("redis")
    with redis.Redis.from_url(server.url) as client:
        client.execute_command(
            "ACL", "SETUSER", "app", "on", ">secret", "~*", "resetchannels", "+@all", "-@dangerous", "-@admin"
        )
    url = f"redis://app:secret@{server.address}/0"
    namespace = f"t{uuid.uuid4().hex}"
    here, there = (Node(url, namespace, origin, trust_ms=1000) for _ in range(2))
    try:
        assert here.read(1) == there.read(1) == 1
        origin.write(2)
        here.cache.drop_sync(tags=["n"])
        assert here.read(1) == 2
        until(lambda: there.read(1) == 2, PROMISED_S + SLACK_S)
        assert not here.cache._engine.remote.servers[0].debt
    finally:
        here.cache.close()
        there.cache.close()


def test_figures_tell_what_is_heard(nodes, redis_server, origin):
    """Connection, messages and gaps are read with the other figures of the cache."""
    here, there = nodes(redis_server.url)
    origin.write(2)
    here.cache.drop_sync(tags=["n"])
    until(lambda: there.read(1) == 2)
    figures = {fact.name: fact.value for fact in there.cache._facts() if "backplane" in fact.name}
    assert figures["smw_cache_backplane_connected"] == 1.0
    assert figures["smw_cache_backplane_messages_total"] >= 1
    assert json.dumps(figures)


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_page_made_while_another_process_drops_is_not_stored(nodes, redis_server, mode):
    """What is put with a mark stands against drops of other processes too, even those still on their way."""
    here, there = nodes(redis_server.url)
    for turn in range(30):
        page = there.cache.region("pages")
        before = page.mark()
        here.cache.drop_sync(tags=["n"])
        await page.put_in(mode, str(turn), {"body": b"old"}, 60, tags=["n"], since=before)
        assert await page.get_in(mode, str(turn)) is None
        assert await here.cache.region("pages").get_in(mode, str(turn)) is None
    before = page.mark()
    await page.put_in(mode, "kept", {"body": b"new"}, 60, tags=["n"], since=before)
    assert await here.cache.region("pages").get_in(mode, "kept") == {"body": b"new"}


def test_a_value_put_in_the_place_of_another_is_heard_of(nodes, redis_server):
    """Who has the older value of a region in memory, which messages keep current, reads the new one."""
    here, there = (node.cache.region("pages") for node in nodes(redis_server.url))
    here.put_sync("k", "old", 60)
    assert there.get_sync("k") == "old"
    here.put_sync("k", "new", 60)
    assert here.get_sync("k") == "new"
    until(lambda: there.get_sync("k") == "new")


def test_a_counter_that_was_evicted_confirms_nothing(nodes, redis_server, origin):
    """What was read while the counter of its key was missing is asked for again, as a drop cannot change that one."""
    from smw import cache as cache_module
    from smw.cache.naming.names import fence_of

    here = nodes(redis_server.url, 1)[0]
    key = cache_module.key_for(here.read, 1)
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete(fence_of(key))
    there = nodes(redis_server.url, 1, trust_ms=200)[0]
    there.cache._listener.close()
    assert there.read(1) == 1
    origin.write(2)
    here.cache.drop_sync(keys=[key])
    time.sleep(0.5)
    assert there.read(1) == 2


def test_a_steady_stream_of_drops_keeps_memory_current(nodes, redis_server):
    """Messages that never cease do not keep the pulse from being asked for, and foreign ones do no harm."""
    here, there = nodes(redis_server.url, trust_ms=400)
    channel = there.cache._engine.remote.servers[0].store._channel
    with redis.Redis.from_url(redis_server.url) as client:
        before, began = client.info("commandstats")["cmdstat_mget"]["calls"], time.monotonic()
        while (took_s := time.monotonic() - began) < 1.5 or (there.backplane.messages <= 50 and took_s < 30):
            here.cache.drop_sync(tags=["other"])
            client.publish(channel, b"\xff what is this")
            assert there.read(1) == 1
            time.sleep(0.004)
        assert client.info("commandstats")["cmdstat_mget"]["calls"] - before <= 1
    assert there.backplane.messages > 50
    assert there.backplane.gaps == 0


def test_an_idle_process_asks_nothing(nodes, redis_server):
    """Some seconds after the cache was last used the pulse is asked for no more, until it is used again."""
    node = nodes(redis_server.url, 1)[0]
    node.cache._listener._linger_s = 0.2
    time.sleep(0.5)
    with redis.Redis.from_url(redis_server.url) as client:

        def scripts() -> int:
            return client.info("commandstats")["cmdstat_evalsha"]["calls"]

        before = scripts()
        time.sleep(0.6)
        assert scripts() == before
        node.read(2)
        until(lambda: scripts() > before)


def test_without_trust_the_server_is_asked_every_time(nodes, redis_server):
    """With `l1_trust_ms=0` no message and no pulse stands in for the question of a call."""
    node = nodes(redis_server.url, 1, trust_ms=0)[0]
    with redis.Redis.from_url(redis_server.url) as client:
        before = client.info("commandstats")["cmdstat_mget"]["calls"]
        for _ in range(5):
            node.read(1)
        assert client.info("commandstats")["cmdstat_mget"]["calls"] - before == 5


def test_drops_are_heard_over_tls(nodes, redis_tls, origin):
    """What is told over an encrypted connection arrives as fast as over a plain one."""
    here, there = nodes(redis_tls.url(redis_tls.right))
    for version in (2, 3):
        origin.write(version)
        here.cache.drop_sync(tags=["n"])
        until(lambda version=version: there.read(1) == version, PROMISED_S)
    assert there.backplane.messages >= 2
    assert there.backplane.gaps == 0
