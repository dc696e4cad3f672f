"""Fixtures that pytest finds by itself once smw is installed; imports pytest only, smw when a test asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from smw.runtime import Runtime
    from smw.testing import FakeClock, Recorded


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    text = "smw(profile, **parts): what the runtime of `smw_isolated` is told, such as cache={'l2_url': 'memory://'}"
    config.addinivalue_line("markers", text)


@pytest.fixture
def smw_clock() -> FakeClock:
    """A clock that stands still until ``advance(seconds)``; `smw_isolated` runs on it."""
    from smw.testing import FakeClock

    return FakeClock()


@pytest.fixture
def smw_isolated(smw_clock: FakeClock, request: pytest.FixtureRequest) -> Iterator[Runtime]:
    """A runtime of its own for one test: in-memory backends, no environment, fake clock.

    The marker ``@pytest.mark.smw(cache={"l2_url": "memory://"})`` tells it more, as `smw.testing.isolated` takes it.
    """
    from smw.testing import isolated

    marks = list(request.node.iter_markers("smw"))
    profile = next((mark.args[0] for mark in marks if mark.args), "testing")
    parts = {name: given for mark in reversed(marks) for name, given in mark.kwargs.items()}
    with isolated(profile, **{"clock": smw_clock, **parts}) as runtime:
        yield runtime


@pytest.fixture
def smw_faults(smw_isolated: Runtime) -> ModuleType:  # noqa: ARG001 - its levels are those that misbehave
    """Makes levels of the isolated runtime's cache misbehave: ``with smw_faults.down("l2"): ...``."""
    from smw.testing import faults

    return faults


@pytest.fixture
def smw_signals(smw_isolated: Runtime) -> Iterator[Recorded]:
    """The signals of the isolated runtime, recorded."""
    from smw.testing import Recorded

    recorded = Recorded(smw_isolated.host)
    yield recorded
    recorded.end()
