"""Fixtures that pytest finds by itself once smw is installed; imports pytest only, smw when a test asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smw.runtime import Runtime
    from smw.testing import FakeClock, Recorded


@pytest.fixture
def smw_clock() -> FakeClock:
    """A clock that stands still until ``advance(seconds)``; `smw_isolated` runs on it."""
    from smw.testing import FakeClock

    return FakeClock()


@pytest.fixture
def smw_isolated(smw_clock: FakeClock) -> Iterator[Runtime]:
    """A runtime of its own for one test: in-memory backends, no environment, fake clock."""
    from smw.testing import isolated

    with isolated(clock=smw_clock) as runtime:
        yield runtime


@pytest.fixture
def smw_signals(smw_isolated: Runtime) -> Iterator[Recorded]:
    """The signals of the isolated runtime, recorded."""
    from smw.testing import Recorded

    recorded = Recorded(smw_isolated.host)
    yield recorded
    recorded.end()
