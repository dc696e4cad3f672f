"""Has the long searches of this folder begin while tests of other folders run."""

from __future__ import annotations

import pytest

from tests.properties import coherence_ahead
from tests.properties.coherence_ahead import System


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin the searches that tests will ask for, where others come first."""
    wanted = [
        value
        for item in session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        for value in item.callspec.params.values()
        if isinstance(value, System)
    ]
    if wanted and len(session.items) > 20 * len(wanted):
        coherence_ahead.begin(wanted)


def pytest_sessionfinish() -> None:
    """End them, asked for or not."""
    coherence_ahead.end()
