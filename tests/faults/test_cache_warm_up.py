"""A process that is to start warm starts in time and without an error, whatever its Redis does."""

from __future__ import annotations

import threading
import uuid

import pytest

from smw.cache import Cache
from tests.faults.tcp_proxy import TcpProxy
from tests.services.stopwatch import Stopwatch

pytestmark = [pytest.mark.timed, pytest.mark.service("redis")]
DEADLINE_S = 0.5
SLACK_S = 1.0


def process(port, namespace):
    """Return a process of the service, with its function."""
    made = Cache(
        l2_host=f"redis://127.0.0.1:{port}/0", namespace=namespace, warm="fleet", warm_timeout_s=DEADLINE_S, jitter=0.0
    )

    @made.cached(ttl=600, key=lambda number: number)
    def load(number: int) -> tuple[int, str]:
        return number, "x" * 2000

    return made, load


@pytest.fixture
def hot(redis_server):
    """A service whose Redis has 500 hot keys; returns its namespace."""
    namespace = uuid.uuid4().hex
    made, load = process(redis_server.port, namespace)
    for _ in range(2):
        for number in range(500):
            load(number)
    made.close()
    return namespace


@pytest.fixture
def proxied(redis_server):
    """Something between the process and Redis that does harm."""
    made = TcpProxy(redis_server.port)
    yield made
    made.close()


async def started(port, namespace, mode):
    """Start a process; return what its warm-up has done, and the seconds that it took."""
    made, load = process(port, namespace)
    watch = Stopwatch()
    done = await made.warm_fleet() if mode == "async" else made.warm_fleet_sync()
    took_s = watch.took_s()
    assert load(7) == (7, "x" * 2000)
    await made.aclose()
    return done, took_s


@pytest.mark.parametrize(("how", "mode"), [("stopped", "async"), ("garbage", "async"), ("half-way", "sync")])
async def test_a_sick_redis_neither_delays_nor_fails_a_start(hot, service_factory, proxied, how, mode):
    """Hanging, answering nonsense, falling silent: the process is ready within the deadline."""
    if how == "stopped":
        server = service_factory("redis")
        server.pause()
        done, took_s = await started(server.port, hot, mode)
    elif how == "half-way":
        timer = threading.Timer(0.03, setattr, (proxied, "mode", "blackhole"))
        timer.start()
        done, took_s = await started(proxied.port, hot, mode)
        timer.join()
    else:
        proxied.mode = how
        done, took_s = await started(proxied.port, hot, mode)
    assert took_s < DEADLINE_S + SLACK_S
    assert how == "half-way" or (done.kept, done.ended != "") == (0, True)


async def test_a_healthy_redis_fills_memory(hot, redis_server):
    """The same process, with nothing in its way."""
    done, _ = await started(redis_server.port, hot, "async")
    assert (done.kept, done.ended) == (500, "")
