"""The pytest side of the real servers: fixtures, the `service` marker, and a summary that cannot lie.

A test whose server is missing is a visible skip that the table counts as NOT RUN; in CI it fails. What was missed goes
to the file named by `SMW_RESULT`, for whoever started pytest.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services.locate import Found, Missing, allowed_missing, hide_options, in_ci, locate, option
from tests.services.server import Server, launch
from tests.services.specs import SPECS

FIXTURES = {
    "redis_server": "redis",
    "redis_tls": "redis",
    "redis_sentinel": "redis",
    "redis_cluster": "redis",
    "memcached_server": "memcached",
    "kafka_server": "kafka",
}


@dataclass(slots=True)
class Row:
    """What is known of one kind of server in this run."""

    found: Found | Missing | None = None
    ran: int = 0
    not_run: int = 0


_MEASURED_AGAIN = 2
ROWS = pytest.StashKey[dict[str, Row]]()


def _needs(item: pytest.Item) -> list[str]:
    return sorted({str(mark.args[0]) for mark in item.iter_markers("service")})


def _row(config: pytest.Config, name: str) -> Row:
    row = config.stash[ROWS][name]
    if row.found is None:
        row.found = locate(SPECS[name], fetch=False)
    return row


def found(config: pytest.Config, name: str) -> Found | Missing:
    """Return where a kind of server comes from in this run."""
    here = _row(config, name).found
    assert here is not None
    return here


def _missing(config: pytest.Config) -> list[str]:
    rows = config.stash[ROWS]
    return [name for name, row in rows.items() if row.not_run and name not in allowed_missing()]


def _terminated(_signal: int, _frame: object) -> None:
    raise SystemExit(143)


def pytest_configure(config: pytest.Config) -> None:
    """Start with an empty table; a TERM ends pytest in order, so that the servers end with it."""
    hide_options()
    config.stash[ROWS] = {name: Row() for name in SPECS}
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test that takes a server's fixture, so that it counts even when nobody marked it.

    A bound on the wall clock is measured up to three times, as a machine may stop for a second and tell nobody; the
    summary names each such test. What fails for a fault of ours fails three times.
    """
    if item.get_closest_marker("timed"):
        item.add_marker(pytest.mark.flaky(reruns=_MEASURED_AGAIN, only_rerun=["AssertionError", "Failed", "Timeout"]))
    for fixture in FIXTURES.keys() & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.service(FIXTURES[fixture]))
    for name in _needs(item):
        if name not in SPECS:
            raise pytest.UsageError(f"{item.nodeid}: no service {name!r}; known: {', '.join(SPECS)}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose server is missing; fail it in CI."""
    reasons = []
    for name in _needs(item):
        row = _row(item.config, name)
        if isinstance(row.found, Missing):
            row.not_run += 1
            reasons.append(f"{name}: {row.found.reason}")
    if reasons and in_ci():
        pytest.fail(f"NOT RUN: {', '.join(reasons)}", pytrace=False)
    if reasons:  # for a user, counted and shown at the end; above, CI fails
        pytest.skip(f"NOT RUN: {', '.join(reasons)}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Count a test that really runs."""
    for name in _needs(item):
        _row(item.config, name).ran += 1


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write what was missed, for the program that started pytest."""
    if path := option("SMW_RESULT"):
        rows = session.config.stash[ROWS]
        counts = {name: {"ran": row.ran, "not_run": row.not_run} for name, row in rows.items()}
        result = {"exit": int(exitstatus), "missing": _missing(session.config), "services": counts}
        Path(path).write_text(json.dumps(result), encoding="utf-8")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, missing servers in red."""
    title = "services"
    for name, row in config.stash[ROWS].items():
        reason, how = "", "not asked for"
        if isinstance(row.found, Found):
            how = f"real ({row.found.how})"
        elif isinstance(row.found, Missing):
            how, reason = "NOT RUN", row.found.reason
        line = f"{title:<10} {name:<10} {how:<15} ran {row.ran:>4}   NOT RUN {row.not_run:>4}   {reason}"
        terminalreporter.write_line(line.rstrip(), red=bool(row.not_run), green=bool(row.ran) and not row.not_run)
        title = ""
    if missing := _missing(config):
        terminalreporter.write_line(f"INCOMPLETE: no real server for {', '.join(missing)}", red=True, bold=True)


def _shared(config: pytest.Config, name: str) -> Iterator[Server]:
    found = _row(config, name).found
    if not isinstance(found, Found):
        # In CI a marked test has failed before this; for a user it is counted and shown at the end.
        pytest.skip(f"NOT RUN: {name}: {found.reason if found else 'not looked for'}")
    server = launch(SPECS[name], found)
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[Server]:
    """A real redis-server, one for the whole run: leave it running, and use keys of your own."""
    yield from _shared(pytestconfig, "redis")


@pytest.fixture(scope="session")
def memcached_server(pytestconfig: pytest.Config) -> Iterator[Server]:
    """A real memcached, one for the whole run: leave it running, and use keys of your own."""
    yield from _shared(pytestconfig, "memcached")


@pytest.fixture(scope="session")
def kafka_server(pytestconfig: pytest.Config) -> Iterator[Server]:
    """A real Kafka broker, one for the whole run: leave it running, and use topics of your own."""
    yield from _shared(pytestconfig, "kafka")


@pytest.fixture
def service_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Start private servers that a test may hurt: `service_factory("redis")`, further words go to its command line.

    With `begun=False` the server is for the test to start.
    """
    started: list[Server] = []

    def start(name: str, *arguments: str, begun: bool = True) -> Server:
        if name not in _needs(request.node):
            pytest.fail(f'mark this test with @pytest.mark.service("{name}"), or its run is not counted')
        found = _row(request.config, name).found
        assert isinstance(found, Found)
        started.append(launch(SPECS[name], found, *arguments, begun=begun))
        return started[-1]

    yield start
    for server in started:
        server.close()
