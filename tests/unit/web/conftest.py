"""A runtime of its own for every test of the web adapter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from smw.runtime import Runtime
from smw.testing import FakeClock, isolated


@pytest.fixture
def clock() -> FakeClock:
    """Time that stands still."""
    return FakeClock()


@pytest.fixture
def runtime(clock: FakeClock) -> Iterator[Runtime]:
    """The current runtime, on fake time."""
    with isolated("testing", clock=clock) as runtime:
        yield runtime
