"""Levels that misbehave on request, so that users can test what their service does then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smw import cache
from smw._kernel.signals import BackendDown, BackendUp
from smw.errors import ConfigError
from smw.testing import FakeClock, Recorded, assert_cached, faults, isolated

LEVELS = {"l2_url": "memory://", "l3_servers": ["memory://"], "namespace": "shop", "l1_trust_ms": 0}
calls: list[str] = []


@cache.cached(ttl=60, tags=["price"])
def price(sku: str) -> int:
    """The function of the tests, which counts its runs."""
    calls.append(sku)
    return len(calls)


@cache.cached(ttl=60)
async def stock(sku: str) -> int:
    """The same, awaited."""
    calls.append(sku)
    return len(calls)


@pytest.fixture
def clock():
    calls.clear()
    return FakeClock()


@pytest.fixture
def runtime(clock):
    with isolated(clock=clock, cache=LEVELS) as opened:
        yield opened


def errors(runtime, level):
    """Return what a level has counted as failed."""
    servers = [server for server in runtime.cache.engine.remote.servers if server.name == level]
    return dict(servers[0].errors)


def test_a_level_that_is_down_costs_an_answer_and_no_error(runtime):
    """While L2 is down the function is called, and memory and L3 go on; afterwards L2 answers at once."""
    recorded = Recorded(runtime.host)
    with faults.down("l2"):
        assert [price(str(number)) for number in range(7)] == [1, 2, 3, 4, 5, 6, 7]
        assert errors(runtime, "l2") == {"refused": 5}
    assert recorded.of(BackendDown) == [BackendDown("memory", "refused")]
    assert len(recorded.of(BackendUp)) == 1
    assert price("new") == 8
    runtime.cache.engine.memory.clear()
    assert price("new") == 8


def test_what_was_dropped_while_it_was_down_is_paid_when_it_is_back(runtime):
    """A drop that L2 did not hear of is owed, and paid when the block ends."""
    price("a")
    with faults.down("l2"):
        cache.drop_sync(tags=["price"])
        level = runtime.cache.engine.remote.servers[0]
        assert len(level.debt) == 1
        assert price("a") == 2
    assert len(level.debt) == 0
    assert price("a") > 1


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_hanging_level_takes_its_time_and_no_more(runtime, clock, mode):
    """A request to a level that hangs ends as a time-out; on a fake clock the time has passed at once."""
    began = clock.now()
    with faults.hang("l2"):
        assert (price("a") if mode == "sync" else await stock("a")) == 1
    assert clock.now() - began == pytest.approx(0.1, abs=0.06)
    assert errors(runtime, "l2")["timeout"] >= 1


async def test_a_hanging_level_on_the_clock_of_the_machine():
    """Without a fake clock the time really passes, and the call ends within its budget and some slack."""
    with isolated(cache={**LEVELS, "budget_ms": 20}) as runtime, faults.hang("l2"):
        assert await stock("real") >= 1
        assert price("real") >= 1
        assert sum(errors(runtime, "l2").values()) >= 2  # a busy machine may be later than the fault


def test_a_slow_level_answers_late(runtime, clock):
    """Less than its time late, a level still answers; more, and it has not answered."""
    price("a")
    runtime.cache.engine.memory.clear()
    began = clock.now()
    with faults.slow("l2", 0.01):
        assert price("a") == 1
    assert clock.now() - began == pytest.approx(0.01)
    runtime.cache.engine.memory.clear()
    with faults.slow("l2", 5.0), faults.down("l3"):
        assert price("a") == 2


def test_garbage_is_a_miss(runtime):
    """Values with flipped bits are counted as corrupt and loaded again."""
    price("a")
    runtime.cache.engine.memory.clear()
    with faults.garbage("l2"), faults.garbage("l3"):
        assert price("a") == 2
    assert runtime.cache.engine.remote.corrupt == {"l2": 1, "l3": 1}


@pytest.mark.parametrize(("fault", "kind"), [(faults.readonly, "readonly"), (faults.full, "full")])
def test_a_level_that_stores_nothing_still_answers(runtime, fault, kind):
    """What is there is handed out, nothing new is stored, and the breaker stays closed."""
    price("a")
    runtime.cache.engine.memory.clear()
    with fault("l2"):
        assert price("a") == 1
        assert price("b") == 2
    assert errors(runtime, "l2")[kind] >= 1
    assert runtime.cache.backends()["memory"] is True


@pytest.mark.parametrize(("fault", "kind"), [(faults.readonly, "readonly"), (faults.full, "full")])
def test_such_a_level_takes_no_written_value_either(runtime, fault, kind):
    """What `writes` puts in place of a result is refused as well, and what was written is read all the same."""
    source = {"a": 1}

    @cache.cached(60)
    def stock(sku: str) -> int:
        return source[sku]

    @cache.writes(stock, value=lambda _result, given: given["number"])
    def store(sku: str, number: int) -> None:
        source[sku] = number

    stock("a")
    with fault("l2"):
        store("a", 2)
        assert errors(runtime, "l2") == {kind: 1}
        assert stock("a") == 2
    assert stock("a") == 2


def test_a_cached_call_can_be_asserted(runtime, clock):
    """The assertion passes where a level would answer, and else fails with what each level holds."""
    with pytest.raises(AssertionError, match=r"(?s)no level would answer this call:.*l2  memory: holds nothing"):
        assert_cached(price, "a")
    price("a")
    assert_cached(price, sku="a")
    with faults.down("l2"):
        with pytest.raises(AssertionError, match="not l2 would answer"):
            assert_cached(price, "a", level="l2")
        assert_cached(price, "a", level="l3")
    own = cache.Cache(namespace="n")
    mine = own.cached(60)(price.__wrapped__)
    mine("b")
    assert_cached(mine, "b", level="l1")
    with pytest.raises(ConfigError, match="C112"):
        assert_cached(price.__wrapped__, "a")
    own.close()


def test_a_rate_strikes_a_share_of_the_requests(runtime):
    """With a rate some requests fail and others do not."""
    with faults.down("l2", rate=0.3):
        for number in range(60):
            price(str(number))
    asked = sum(sum(cells[:-1]) for _, cells in runtime.cache.engine.remote.servers[0].timings.items())
    assert 5 <= errors(runtime, "l2")["refused"] < asked


def test_a_cache_of_its_own_can_be_struck(clock):
    """An explicit cache is named; the runtime's is left alone."""
    own = cache.Cache(l2_url="memory://", namespace="n")
    with faults.down("l2", cache=own):
        assert own.cached(60)(price.__wrapped__)("a") == 1
    assert sum(own.engine.remote.servers[0].errors.values()) > 0
    own.close()


def test_a_level_that_is_not_there_is_an_error(clock):
    """A test that strikes a level without configuring it is told how."""
    with isolated(clock=clock), pytest.raises(ConfigError, match="SMW-C123"), faults.down("l2"):
        pass


def test_the_fixture_and_the_marker_work_in_a_users_suite(tmp_path: Path) -> None:
    """A user's test gives the isolated runtime levels by marker and strikes them by fixture."""
    (tmp_path / "test_user.py").write_text(
        "import pytest, smw\n"
        "@smw.cached(3600)\n"
        "def playlists(user: str) -> list[str]:\n"
        "    return [user]\n"
        "@pytest.mark.smw(cache={'l2_url': 'memory://', 'namespace': 'n'})\n"
        "def test_survives(smw_isolated, smw_clock, smw_faults):\n"
        "    assert smw_isolated.host.clock is smw_clock\n"
        "    with smw_faults.hang('l2'):\n"
        "        smw_clock.advance(3600)\n"
        "        assert playlists('u1') == ['u1']\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "smw.pytest_plugin"]
    command += ["-p", "no:cacheprovider", str(tmp_path)]
    env = {"PYTHONPATH": ":".join(sys.path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert "1 passed" in result.stdout, result.stdout + result.stderr
